"""The XML form of a property list, read strictly: what Apple's own writers produce, and nothing looser."""

from collections.abc import Mapping
from xml.parsers import expat

from ostiary.formats.plist_leaves import BLANK, CONVERT
from ostiary.formats.plist_rules import (
    Limits,
    NestedTooDeep,
    NotAPropertyList,
    PlistValue,
    PropertyListTooLarge,
)


def decode_xml(document: bytes, limits: Limits) -> PlistValue:
    """The value at the root of an XML property list.

    Raises:
        NotAPropertyList: it is not well formed, not UTF-8, or not a property list.
        NotBase64: a data element holds something else than base64.
        PropertyListTooLarge: more values than `limits` allows.
    """
    # No UTF-8 text of XML has a NUL; UTF-16 and UTF-32 have many, and we want neither.
    if b"\0" in document:
        raise NotAPropertyList("the text contains NUL or is not UTF-8")
    parser = expat.ParserCreate("UTF-8")  # wins over whatever the document declares
    parser.buffer_text = True
    building = _Building(limits)
    parser.StartElementHandler = building.start
    parser.EndElementHandler = building.end
    parser.CharacterDataHandler = building.pieces.append
    parser.XmlDeclHandler = _check_declaration
    parser.StartDoctypeDeclHandler = _check_doctype
    parser.EntityDeclHandler = _refuse_entity
    # With an external DTD named, expat would skip an unknown entity without a word.
    parser.SkippedEntityHandler = _refuse_entity
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise NotAPropertyList(
            "the XML is not well formed", reason=expat.ErrorString(error.code), line=error.lineno
        ) from None
    return building.root()


def _check_declaration(version: str, encoding: str | None, _standalone: int) -> None:
    if version != "1.0":
        raise NotAPropertyList("the document is not XML 1.0")
    if encoding is not None and encoding.lower() != "utf-8":
        raise NotAPropertyList("the declared encoding is not UTF-8")


def _check_doctype(
    name: str, _system: str | None, _public: str | None, has_internal_subset: int
) -> None:
    # Apple's own line names an external DTD, which is never fetched. A subset inside could define entities.
    if name != "plist" or has_internal_subset:
        raise NotAPropertyList("the document type is not Apple's, or carries declarations")


def _refuse_entity(*_declared: object) -> None:
    raise NotAPropertyList("entities other than the five of XML are refused")


class _Building:
    """The value as far as it has been read. expat calls `start`, `end` and `pieces.append`."""

    __slots__ = (
        "_between",
        "_container",
        "_depth_left",
        "_key",
        "_leaf",
        "_left",
        "_plists",
        "_root",
        "_stack",
        "pieces",
    )

    def __init__(self, limits: Limits) -> None:
        self.pieces: list[str] = []  # text since the last tag
        self._between: list[str] = []  # text that stood between elements; only blanks may
        self._left = limits.max_objects
        self._depth_left = limits.max_depth
        self._container: dict[str, PlistValue] | list[PlistValue] | None = None
        self._key: str | None = None  # of the value that comes next in a dictionary
        self._leaf: str | None = None  # the open element, if it can hold text only
        self._stack: list[tuple[dict[str, PlistValue] | list[PlistValue] | None, str | None]] = []
        self._root: list[PlistValue] = []
        self._plists = 0

    def root(self) -> PlistValue:
        if "".join(self._between).strip(BLANK):
            raise NotAPropertyList("text stands between the elements")
        if not self._root:
            raise NotAPropertyList("the property list is empty")
        return self._root[0]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._leaf is not None:
            raise NotAPropertyList("an element stands inside a value")
        if self.pieces:
            self._between += self.pieces
            self.pieces.clear()
        if tag == "plist":
            self._open_plist(attributes)
            return
        if attributes or not self._plists:
            raise NotAPropertyList(
                "an element has attributes, or stands outside of the property list"
            )
        self._left -= 1
        if self._left < 0:
            raise PropertyListTooLarge("too many values")
        if tag in CONVERT or tag == "key":
            self._leaf = tag
        elif tag == "dict":
            self._open({})
        elif tag == "array":
            self._open([])
        else:
            raise NotAPropertyList("an element has an unknown name")

    def end(self, tag: str) -> None:
        leaf = self._leaf
        if leaf is None:
            if self.pieces:
                self._between += self.pieces
                self.pieces.clear()
            if tag != "plist":
                self._close()
            return
        self._leaf = None
        text = "".join(self.pieces)
        self.pieces.clear()
        if leaf == "key":
            self._name_next(text)
        else:
            self._place(CONVERT[leaf](text))

    def _open_plist(self, attributes: Mapping[str, str]) -> None:
        if self._plists or attributes.keys() - {"version"}:
            raise NotAPropertyList("the plist element is repeated or has unknown attributes")
        self._plists = 1

    def _open(self, container: dict[str, PlistValue] | list[PlistValue]) -> None:
        self._place(container)
        if len(self._stack) >= self._depth_left:
            raise NestedTooDeep
        self._stack.append((self._container, self._key))
        self._container = container
        self._key = None

    def _close(self) -> None:
        if self._key is not None:
            raise NotAPropertyList("a key has no value")
        self._container, self._key = self._stack.pop()

    def _name_next(self, key: str) -> None:
        if type(self._container) is not dict:
            raise NotAPropertyList("a key stands outside of a dictionary")
        if self._key is not None:
            raise NotAPropertyList("a key has no value")
        if key in self._container:
            raise NotAPropertyList("a dictionary names one key twice")
        self._key = key

    def _place(self, value: PlistValue) -> None:
        container = self._container
        if type(container) is dict:
            if self._key is None:
                raise NotAPropertyList("a value in a dictionary has no key")
            container[self._key] = value
            self._key = None
        elif type(container) is list:
            container.append(value)
        elif self._root:
            raise NotAPropertyList("the property list holds more than one value")
        else:
            self._root.append(value)
