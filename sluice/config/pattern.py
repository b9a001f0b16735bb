"""Text of a format, with an error that says what to write, because no error shows a pattern."""

import re
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

WRONG_FORMAT = "wrong_format"
"""Type of the error of text in a wrong format, see `ErrorDetails`."""


def wrong_format(remedy: str) -> PydanticCustomError:
    """The error of text in a wrong format. The value is added to it if it cannot be a secret."""
    return PydanticCustomError(WRONG_FORMAT, "{message}", {"message": remedy})


@dataclass(frozen=True, slots=True)
class Pattern:
    """Annotates text that must match a regular expression as a whole.

    Editors get the expression from the JSON Schema. `remedy` is the error: what to write.
    """

    expression: str
    remedy: str

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        compiled = re.compile(self.expression)

        def check(value: str) -> str:
            if compiled.fullmatch(value) is None:
                raise wrong_format(self.remedy)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.expression})$"}
