"""Formulas: all that a score can be made of, by name."""

from pelagos.evaluation.conventions.ensemble_formulas import ENSEMBLE_FORMULAS
from pelagos.evaluation.conventions.error_formulas import ERROR_FORMULAS
from pelagos.evaluation.conventions.field_formulas import FIELD_FORMULAS
from pelagos.evaluation.conventions.formula import Formula
from pelagos.evaluation.conventions.rain_formulas import RAIN_FORMULAS

FORMULAS: dict[str, Formula] = {**ERROR_FORMULAS, **FIELD_FORMULAS, **ENSEMBLE_FORMULAS, **RAIN_FORMULAS}
