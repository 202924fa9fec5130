"""What a change to a topic's JSON Schema may do within one version: next to nothing.

During an upgrade two neighbouring versions read and write side by side: a new reader reads old records, and an old
reader reads new ones. So a value allowed on one side must be allowed on the other, and only what readers ignore may
change: descriptions, and fields that are added with a default.
"""

from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

RULES: Final = {
    "removed": "a field that is removed or renamed: its readers find nothing",
    "added_required": "a field added without a default: old records lack it",
    "made_required": "an optional field made required: old records may lack it",
    "made_optional": "a required field made optional: an old reader needs it",
    "type": "another type: one side's values fail on the other",
    "branch_removed": "a kind or type that is no longer allowed (null included): old records may be of it",
    "branch_added": "a kind or type that is newly allowed (null included): an old reader does not know it",
    "enum_narrowed": "a value taken out of an enum: old records may hold it",
    "enum_widened": "a value added to an enum: an old reader does not know it",
    "tightened": "a narrower range, length or count: old records may lie outside",
    "widened": "a wider range, length or count: new records may lie outside what an old reader takes",
    "default": "another default: a record without the field would change its meaning",
    "unit": "another unit: the same number would mean something else",
    "closed": "a field added where unknown fields are forbidden: an old reader rejects it",
    "changed": "any other keyword changed (pattern, format, …): one side's values may fail on the other",
}

# What says something to people only, or is looked at on its own.
_IGNORED: Final = frozenset(
    {"$schema", "$id", "$defs", "$ref", "$comment", "title", "description", "examples", "deprecated", "discriminator"}
    | {"properties", "required", "items", "prefixItems", "anyOf", "oneOf", "type", "const", "enum"}
)
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaking_changes(old_schema: Schema, new_schema: Schema) -> list[str]:
    """What breaks a reader between two states of one version's schema: a line each; none if all is well."""
    return list(dict.fromkeys(_Comparison(old_schema, new_schema).differences(old_schema, new_schema, "record")))


class _Comparison:
    """Two documents side by side; `$ref`s lead into the one that they stand in."""

    def __init__(self, old_root: Schema, new_root: Schema) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._entered: set[tuple[str, str]] = set()

    def differences(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        references = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if any(references):
            if references in self._entered:  # a type that holds itself
                return
            self._entered.add(references)
        yield from self._branches(_branches(old, self._old_root), _branches(new, self._new_root), path)
        self._entered.discard(references)

    def _branches(self, old: list[Schema], new: list[Schema], path: str) -> Iterator[str]:
        if len(old) == len(new) == 1:
            yield from self._plain(old[0], new[0], path)
            return
        left = list(new)
        for branch in old:
            twin = next((other for other in left if _same_kind(branch, other)), None)
            if twin is None:
                yield _say(path, "branch_removed", _label(branch))
            else:
                left.remove(twin)
                yield from self._plain(branch, twin, f"{path}({_label(branch)})" if _tags(branch) else path)
        for branch in left:
            yield _say(path, "branch_added", _label(branch))

    def _plain(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        if old.get("type") != new.get("type"):
            yield _say(path, "type", f"{old.get('type')} -> {new.get('type')}")
            return
        yield from _values(old, new, path)
        yield from _keywords(old, new, path)
        yield from self._fields(old, new, path)
        yield from self._elements(old, new, path)

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            if name not in after:
                yield _say(f"{path}.{name}", "removed")
                continue
            if name in needed_after - needed_before:
                yield _say(f"{path}.{name}", "made_required")
            if name in needed_before - needed_after:
                yield _say(f"{path}.{name}", "made_optional")
            yield from self.differences(before[name], after[name], f"{path}.{name}")
        for name in after.keys() - before.keys():
            if name in needed_after:
                yield _say(f"{path}.{name}", "added_required")
            if old.get("additionalProperties") is False:
                yield _say(f"{path}.{name}", "closed")

    def _elements(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        if "items" in old or "items" in new:
            yield from self.differences(old.get("items", {}), new.get("items", {}), f"{path}[]")
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(before) != len(after):
            yield _say(path, "changed", "prefixItems")
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from self.differences(one, other, f"{path}[{place}]")


def _values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = _allowed(old), _allowed(new)
    if before is None and after is None:
        return
    if before is None or after is None:
        yield _say(path, "enum_narrowed" if before is None else "enum_widened", "an enum or none")
        return
    for value in before:
        if value not in after:
            yield _say(path, "enum_narrowed", repr(value))
    for value in after:
        if value not in before:
            yield _say(path, "enum_widened", repr(value))


def _keywords(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for keyword in sorted((old.keys() | new.keys()) - _IGNORED):
        before, after = old.get(keyword), new.get(keyword)
        # A field that gets a default has become optional: that is said where `required` is compared.
        if before == after or (keyword == "default" and (keyword not in old or keyword not in new)):
            continue
        change = f"{keyword} {_or_none(before)} -> {_or_none(after)}"
        if keyword in _LOWER or keyword in _UPPER:
            sign = 1 if keyword in _LOWER else -1
            tighter = before is None or (after is not None and sign * after > sign * before)
            yield _say(path, "tightened" if tighter else "widened", change)
        else:
            yield _say(path, keyword if keyword in RULES else "changed", change)


def _branches(schema: Schema, root: Schema) -> list[Schema]:
    """The plain schemas that a value may match: references followed, unions laid flat, what they share spread."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#").split("/")[1:]:
            target = target[part.replace("~1", "/").replace("~0", "~")]
        return _branches({**target, **_without(schema, "$ref")}, root)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            shared = _without(schema, keyword)
            return [plain for branch in schema[keyword] for plain in _branches({**shared, **branch}, root)]
    if len(schema.get("allOf", ())) == 1:
        return _branches(
            {**{name: value for name, value in schema.items() if name != "allOf"}, **schema["allOf"][0]}, root
        )
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [schema]


def _without(schema: Schema, keyword: str) -> Schema:
    return {name: value for name, value in schema.items() if name != keyword}


def _same_kind(one: Schema, other: Schema) -> bool:
    mine, yours = _tags(one), _tags(other)
    if mine and yours:
        return not mine.isdisjoint(yours)
    return bool(one.get("type") == other.get("type"))


def _tags(schema: Schema) -> set[str]:
    """The values that tell an object of a union from its siblings: those of its `kind`."""
    values = _allowed(schema.get("properties", {}).get("kind", {}))
    return {str(value) for value in values or ()}


def _allowed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _label(schema: Schema) -> str:
    return "|".join(sorted(_tags(schema))) or str(schema.get("type", "anything"))


def _or_none(value: Any) -> str:
    return "none" if value is None else repr(value)


def _say(path: str, rule: str, change: str = "") -> str:
    return f"{path}: {change}: {RULES[rule]}" if change else f"{path}: {RULES[rule]}"
