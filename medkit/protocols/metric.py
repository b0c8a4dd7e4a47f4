"""What measures predictions of cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    pass

from medkit.protocols.cases import Rows

COLUMNS = (
    *("stage", "split", "case", "patient", "center", "label", "labels", "image", "truth"),
    *("probability", "value", "class", "class_probability"),
)
"""Columns of ``cases.csv`` that are no metric's, besides ``probability_NAME`` of each declared class and
``weight_of_NAME`` of a metric that does not count all cases the same."""


def is_column(name: str) -> bool:
    """Whether ``cases.csv`` has something else under a name, which a metric of that name would overwrite."""
    return name in COLUMNS or name.startswith(("probability_", "weight_of_"))


def column_told(name: str) -> tuple[str, str]:
    """What is wrong with such a name of a metric, and the way out."""
    what = f"it is recorded as '{name}', which is another column of cases.csv that it would overwrite"
    return what, f"give the metric another name, such as '{name}_score'"


@runtime_checkable
class Metric(Protocol):
    """A number with a declared rule for empty cases and a value per case.

    The evaluator hands ``per_case`` one dictionary a case, or one a slice in slice-wise stages (a volume of one slice,
    D = 1). It must not be changed. Its keys:

    ===================== ================ =========================================================================
    ``id``                str              of the case, ``CASE#3`` for its fourth slice
    ``patient center``    str              whose it is, and from where
    ``label``             float            1 where the mask has a positive voxel, else the case's own; nan if unknown
    ``image``             (D,H,W) float32  on the *prepared* grid, in the window; (D,C,H,W) of several channels
    ``target``            (D,H,W) float32  as ``image``, where the data has targets
    ``mask``              (D,h,w) uint8    on the *source* grid, where the data has masks
    ``mask_probability``  (D,h,w) float32  a prediction brought back to the *source* grid, in [0,1]
    ``class_masks``       (K,D,h,w) bool   of masks with classes: where each is, on the *source* grid; ``mask`` is
                                           of any class then, and ``mask_probability`` above 0.5 exactly where
                                           one is predicted
    ``class_masks_said``  (K,D,h,w) bool   where each is predicted: the likeliest, of overlapping ones above 0.5
    ``classes``           tuple of str     their names
    ``output``            (D,H,W) float32  a predicted image, as ``image``; so is ``reconstruction``
    ``probability``       float            in [0,1]; of a volume's slices the largest
    ``value``             float            a regression; of a volume's slices the mean
    ``class_probability`` (K,) float32     of a volume's slices the mean
    ``label_probability`` (K,) float32     of classes that do not exclude each other; of a volume's slices the largest
    ``labels``            () or (K,)       declared labels: number of the class, measurement or flags; nan if unknown
    ``declared``          Labels           what they are, with the names of classes (:mod:`medkit.protocols.labels`)
    ``spacing``           (3,) float64     mm of the source: from slice to slice, down a column, along a row
    ``voxel_volume``      float            mm^3 (= microlitres) of a source voxel, the mean over slices
    ``slice_volumes``     (D,) float64     mm^3 of a source voxel in each slice: use these for volumes
    ``positions``         (D,3) float64    mm, LPS: where each slice's first source voxel lies
    ``affine``            (4,4) float64    mm, LPS, from (slice, row, column, 1) of the source
    ===================== ================ =========================================================================

    and every further field of the case's manifest under its own name. Predictions are there if the stage makes them;
    all are finite. Where the source does not say how large its voxels are (a PNG), all five sizes and places are nan:
    a metric in mm or mL is then nan too, never a number of pixels.

    A case whose label is nan, or that has no mask, is unlabelled: a metric that reads what is not known gets no row of
    it, and the case is counted as empty.

    ``per_case`` returns the row to keep (the same keys for every case, numbers or text), or None when the case is empty
    for this metric (``empty`` says the rule in words). None takes the case out of the mean, so it is for what the
    *truth* leaves undefined. What a network brings about itself should cost it: a distance to a lesion that was not
    found is no None but the worst there is, such as the diagonal of the volume.

    ``compute`` turns the stacked rows into the number, nan where it is undefined (never 0). ``score`` is the per-case
    value shown in ``cases.csv`` and used by paired tests, nan if the metric has none (AUC). On several ranks each
    measures a part of the cases, and one computes the number: what that takes stands in the rows, not in the metric.

    ``name`` may not be one of the other columns of ``cases.csv`` (``COLUMNS`` of this module).

    A metric may also have

    - ``needs``, a tuple of keys that ``per_case`` reads (checked before training; all keys are anyway tried on a case);
    - ``extras(rows)``, numbers by name that go with its own into ``results.json``, by names not taken there;
    - ``interval(rows, patients)``, a 95 % interval (low, high) in the place of the bootstrap's, or None to keep that,
      with ``interval_method``, how it was made in a word; it is not asked with fewer than six patients. Ends that are
      reversed, not finite or on one side of the value are an error; (nan, nan) says that there is none;
    - ``among(rows)``, (n,) bool, the rows in a ratio's denominator: only these, and their patients, are counted;
    - ``lacks(rows, patients)``, why there is no interval, where rows of one kind are too few for one, else "";
    - ``terms(rows)`` and ``of_sums(sums)`` (:class:`medkit.parts.metrics_sums.SumMetric`), or ``weighted(rows)``, a
      function of how often each row counts, for a bootstrap that takes a hundredth of the time;
    - ``weight(row)``, how much a case's ``score`` counts in the mean that is the number, so that tests take the same
      mean (in ``cases.csv`` as ``weight_of_NAME``; a case of several slices, not a slice);
    - ``of_labels(labels)``, the metrics that stand for it in a stage that reads the declared labels of its data block;
    - ``of_classes(names)``, the metrics that stand for it where masks have classes, its own summary first;
    - ``to(device)``, told before an evaluation where a network of the metric's should compute.
    """

    name: str
    unit: str
    higher_is_better: bool
    empty: str

    def per_case(self, case: Mapping[str, Any]) -> dict[str, Any] | None: ...

    def compute(self, rows: Rows) -> float: ...

    def score(self, row: Mapping[str, Any]) -> float: ...
