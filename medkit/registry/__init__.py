"""Names of components, who registers them, and what their constructors take."""

from medkit.registry.table import Entry, Registrar, Registry

__all__ = ["Entry", "Registrar", "Registry"]
