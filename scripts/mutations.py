# SPDX-License-Identifier: Apache-2.0
"""mutations.py - finds what scripts/mutate may change in a C file of this project.

There is no parser of C here: the text is cut into tokens, and the house style says the rest (a
function's braces stand alone in the first column).  What is taken for something that it is not does
not compile, or compiles to the same code, and then is not counted.

A mutation keeps the number of lines, so that __LINE__ stays what it was."""
import re
from bisect import bisect_right
from dataclasses import dataclass

KINDS = ("rel", "const", "ternary", "swapargs", "arith", "logic", "minmax", "negif", "rmcall",
         "rmassign", "ret", "bool", "jump", "sync", "lock")

TOKEN = re.compile(r"""
    (?P<skip>\s+|/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.|\\\n)*)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])+')
  | (?P<number>(?:0[xX][0-9a-fA-F]+|\d[\d.]*(?:[eE][-+]?\d+)?)[uUlLfF]*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<op>->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|<<|>>|\.\.\.|.)
    """, re.VERBOSE | re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|\d+)([uUlL]*)$")

RELATIONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "|": "&", "&": "|", "^": "|",
              "<<": ">>", ">>": "<<", "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "*=": "/=",
              "/=": "*=", "<<=": ">>=", ">>=": "<<="}
LOGIC = {"&&": "||", "||": "&&"}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
HEADS = {"if", "for", "while", "switch"}
NO_CALLS = HEADS | {"return", "sizeof", "offsetof", "defined", "case", "else", "do", "__attribute__"}
TYPE_NAME = re.compile(r"(?:void|char|short|int|long|unsigned|signed|bool|float|double|const|\w+_t|"
                       r"FILE|DIR|CURL\w*)$")
# The last word of a call that makes something durable: of the system, of a table of operations, or
# a function named after what it does.
SYNC = re.compile(r"(?:fsync|fdatasync|syncfs|msync|sync_file_range|(?:data)?sync|"
                  r"sync_folder(?:_of)?|sync_data|\w+_sync)$")
# Calls of which two arguments can change places: always, or where only equality is asked for.
SYMMETRIC = re.compile(r"(?:min|max|MIN|MAX)(?:_\w+)?$|calloc$")
EQUAL = re.compile(r"str(?:case)?cmp$")
LOCK = re.compile(r"pthread_(?:mutex|rwlock)_(?:timed)?(?:rd|wr)?lock$")
UNLOCK = re.compile(r"pthread_(?:mutex|rwlock)_unlock$")
SCOPE_LOCK = re.compile(r"WITH_\w*LOCK$")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Mutant:
    """One changed statement.  `text` says what was done, and with file and function names it."""
    file: str
    line: int
    function: str
    kind: str
    text: str
    edits: tuple  # of (start, end, new text), in order, without overlap
    lines: tuple  # a test that executes one of them may notice

    def apply(self, source):
        parts, at = [], 0
        for start, end, new in self.edits:
            parts += [source[at:start], new, "\n" * source.count("\n", start, end)]
            at = end
        return "".join(parts) + source[at:]


def tokenise(source):
    return [Token(m.lastgroup, m.group(), m.start(), m.end()) for m in TOKEN.finditer(source)
            if m.lastgroup != "skip"]


def match_brackets(tokens):
    """index of a bracket -> index of its partner"""
    partners, stack = {}, []
    for i, t in enumerate(tokens):
        if t.kind == "op" and t.text in "([{":
            stack.append(i)
        elif t.kind == "op" and t.text in ")]}" and stack:
            partners[i] = stack.pop()
            partners[partners[i]] = i
    return partners


class Finder:
    """Collects the mutants of one file."""

    def __init__(self, file, source):
        self.file, self.source = file, source
        self.tokens = tokenise(source)
        self.partners = match_brackets(self.tokens)
        self.line_starts = [0] + [m.end() for m in re.finditer("\n", source)]
        self.mutants = []
        self.function, self.first, self.last = "", 0, 0
        self.owners = {}  # token -> first token of its statement

    # --- small questions ---

    def text(self, i):
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def line(self, i):
        return bisect_right(self.line_starts, self.tokens[i].start)

    def is_op(self, i, *texts):
        return 0 <= i < len(self.tokens) and self.tokens[i].kind == "op" and self.text(i) in texts

    def quote(self, first, last):
        """The text from one token to another, as one line."""
        text = self.source[self.tokens[first].start:self.tokens[last].end]
        return re.sub(r"\s+", " ", text)

    def is_binary(self, i):
        """Is the operator one of two operands, as far as can be told?"""
        before = self.tokens[i - 1]
        if before.kind == "op" and before.text not in (")", "]"):
            return False
        if before.text in ("return", "case", "else", "struct", "union", "enum"):
            return False
        if self.text(i) == "*" and before.kind == "name":
            # A pointer's declaration, or a cast.
            return not (TYPE_NAME.match(before.text) or self.text(i - 2) in ("struct", "union", "enum")
                        or self.is_op(i + 1, ")", "*", ","))
        return True

    def end_of_operand(self, i):
        """The last token before that which ends the expression that begins at token i."""
        while i < self.last:
            if self.is_op(i, "(", "[", "{"):
                i = self.partners[i]
            elif self.is_op(i, ",", ";", ")", "]", "}", ":"):
                return i - 1
            i += 1
        return i

    # --- making one ---

    def add(self, kind, at, what, edits, lines=None):
        """`what` is the change; the statement that it is in tells it from others alike."""
        edits = tuple(sorted(edits))
        first = self.owners.get(at, at)
        nth = sum(1 for m in self.mutants if m.function == self.function and m.text == what)
        text = f"{what} (#{nth + 1})" if nth else what
        self.mutants.append(Mutant(self.file, self.line(at), self.function, kind, text, edits,
                                   tuple(lines or dict.fromkeys((self.line(at), self.line(first))))))

    def replace(self, kind, i, new):
        t = self.tokens[i]
        line = self.source[self.line_starts[self.line(i) - 1]:].split("\n", 1)[0]
        column = t.start - self.line_starts[self.line(i) - 1]
        around = line[max(0, column - 30):column + len(t.text) + 30].strip()
        self.add(kind, i, f"{t.text} -> {new} in `{around}`", [(t.start, t.end, new)])

    # --- expressions ---

    def look_at_token(self, i):
        t = self.tokens[i]
        if t.kind == "number":
            self.change_number(i)
        elif t.kind == "name":
            self.change_name(i)
        elif t.text in RELATIONS:
            self.replace("rel", i, RELATIONS[t.text])
        elif t.text in LOGIC:
            self.replace("logic", i, LOGIC[t.text])
        elif t.text in ARITHMETIC and self.is_binary(i):
            self.replace("arith", i, ARITHMETIC[t.text])
        elif t.text == "?":
            self.swap_arms(i)

    def change_number(self, i):
        m = NUMBER.match(self.text(i))
        if not m:
            return
        value = int(m.group(1), 16 if m.group(1)[:2] in ("0x", "0X") else
                    8 if m.group(1)[0] == "0" else 10)
        for new in (value + 1, value - 1):
            if new >= 0:
                self.replace("const", i, f"{new}{m.group(2)}")

    def change_name(self, i):
        name = self.text(i)
        if name in ("true", "false"):
            self.replace("bool", i, "false" if name == "true" else "true")
        elif re.match(r"(min|max|MIN|MAX)(_\w+)?$", name) and self.is_op(i + 1, "("):
            swap = {"min": "max", "max": "min", "MIN": "MAX", "MAX": "MIN"}
            self.replace("minmax", i, swap[name[:3]] + name[3:])
        if name in NO_CALLS or not self.is_op(i + 1, "("):
            return
        if SYNC.match(name):
            self.leave_out_sync(i)
        self.swap_arguments(i)

    def swap_arms(self, i):
        depth, colon = 0, i + 1
        while colon < self.last:
            if self.is_op(colon, "(", "[", "{"):
                colon = self.partners[colon]
            elif self.is_op(colon, "?"):
                depth += 1
            elif self.is_op(colon, ":"):
                if depth == 0:
                    break
                depth -= 1
            colon += 1
        last = self.end_of_operand(colon + 1)
        if colon >= self.last or last <= colon:
            return
        left, right = (i + 1, colon - 1), (colon + 1, last)
        self.swap("ternary", "ternary arms swapped", left, right)

    def swap(self, kind, what, left, right):
        texts = [self.source[self.tokens[a].start:self.tokens[b].end] for a, b in (left, right)]
        if texts[0] == texts[1]:
            return
        edits = [(self.tokens[a].start, self.tokens[b].end, re.sub(r"\s+", " ", new))
                 for (a, b), new in zip((left, right), reversed(texts))]
        self.add(kind, left[0], f"{what}: {self.quote(*left)} <-> {self.quote(*right)}", edits)

    def arguments(self, i):
        """(first, last token) of each argument of the call whose name is token i"""
        arguments, at, end = [], i + 2, self.partners.get(i + 1, 0)
        while at < end:
            last = at
            while last < end and not self.is_op(last, ","):
                last = self.partners[last] + 1 if self.is_op(last, "(", "[", "{") else last + 1
            if last > at:
                arguments.append((at, last - 1))
            at = last + 1
        return arguments

    def swap_arguments(self, i):
        if SYMMETRIC.match(self.text(i)) or EQUAL.match(self.text(i)) and (
                self.is_op(i - 1, "!") or self.is_op(self.partners[i + 1] + 1, "==", "!=")):
            return
        arguments = self.arguments(i)
        for left, right in zip(arguments, arguments[1:]):
            # Words of a message are not what is tested here.
            if "string" not in (self.tokens[left[0]].kind, self.tokens[right[0]].kind):
                self.swap("swapargs", f"{self.text(i)}: arguments swapped", left, right)

    def leave_out_sync(self, i):
        first = i
        while self.is_op(first - 1, "->", ".") and self.tokens[first - 2].kind == "name":
            first -= 2
        end = self.partners.get(i + 1)
        if end:
            self.add("sync", first, f"{self.quote(first, end)} left out",
                     [(self.tokens[first].start, self.tokens[end].end, "0")])

    # --- statements ---

    def find_statements(self):
        """Where a statement begins within the function, and what belongs to it."""
        starts, i = [], self.first + 1
        depth = 0
        begins = True
        while i < self.last:
            if begins and not self.is_op(i, "}", "{", ";"):
                starts.append(i)
                begins = False
            if self.is_op(i, "("):
                depth += 1
            elif self.is_op(i, ")"):
                depth -= 1
                opened = self.partners.get(i, i)
                if depth == 0 and self.text(opened - 1) in HEADS:
                    begins = True
            elif self.is_op(i, "{") and not self.opens_block(i):
                i = self.partners.get(i, i)  # an initialiser: no statements
            elif depth == 0 and (self.is_op(i, ";", "{", "}") or self.text(i) in ("else", "do")
                                 or self.is_op(i, ":") and self.ends_label(i, starts)):
                begins = True
            i += 1
        for start, following in zip(starts, starts[1:] + [self.last]):
            for k in range(start, following):
                self.owners[k] = start
        return starts

    def opens_block(self, i):
        if self.is_op(i - 1, ")"):
            before = self.text(self.partners.get(i - 1, 0) - 1)
            return before in HEADS or bool(re.search("FOREACH|foreach|for_each", before))
        return self.is_op(i - 1, ";", "{", "}", ":") or self.text(i - 1) in ("else", "do")

    def ends_label(self, i, starts):
        first = starts[-1] if starts else i
        return self.text(first) in ("case", "default") or i == first + 1

    def end_of_statement(self, i):
        while i < self.last and not self.is_op(i, ";"):
            i = self.partners[i] + 1 if self.is_op(i, "(", "[", "{") else i + 1
        return i

    def look_at_statement(self, i):
        name = self.text(i)
        if name == "if":
            self.negate(i)
            return
        if name in HEADS or name in ("else", "do", "case", "default", "goto"):
            return
        end = self.end_of_statement(i)
        if name in ("break", "continue"):
            self.remove("jump", i, end)
        elif name == "return":
            self.change_return(i, end)
        elif self.is_call(i, end):
            called = self.text(i)
            if SCOPE_LOCK.match(called):
                self.remove("lock", i, end)
            elif not (LOCK.match(called) or UNLOCK.match(called)):
                self.remove("rmcall", i, end)
        elif self.is_assignment(i, end):
            self.remove("rmassign", i, end)

    def negate(self, i):
        close = self.partners.get(i + 1)
        if close:
            inside = self.quote(i + 2, close - 1)
            self.add("negif", i, f"if negated: {inside}",
                     [(self.tokens[i + 1].end, self.tokens[i + 1].end, "!("),
                      (self.tokens[close].start, self.tokens[close].start, ")")])

    def remove(self, kind, i, end):
        self.add(kind, i, f"`{self.quote(i, end)}` removed",
                 [(self.tokens[i].start, self.tokens[end].end, ";")])

    def change_return(self, i, end):
        value = self.quote(i + 1, end - 1) if end > i + 1 else "0"
        if value in ("0", "NULL", "false", "true"):
            return  # nothing, or a boolean that is flipped elsewhere
        self.add("ret", i, f"`return {value}` -> return 0",
                 [(self.tokens[i + 1].start, self.tokens[end - 1].end, "0")])

    def is_call(self, i, end):
        """A call alone: NAME(...), a->b(...), (void)NAME(...)"""
        if self.is_op(i, "(") and self.text(i + 1) == "void" and self.is_op(i + 2, ")"):
            i += 3
        if self.tokens[i].kind != "name" or self.text(i) in NO_CALLS:
            return False
        while not self.is_op(i, "("):
            if self.is_op(i, "["):
                i = self.partners[i]
            elif not (self.tokens[i].kind == "name" or self.is_op(i, "->", ".")) or i >= end:
                return False
            elif self.tokens[i].kind == "name" and self.tokens[i + 1].kind == "name":
                return False
            i += 1
        return self.partners.get(i) == end - 1

    def is_assignment(self, i, end):
        t = self.tokens[i]
        if self.is_op(i, "++", "--"):
            return True
        if t.kind == "name" and not self.is_op(i + 1, "->", ".", "[", "++", "--", *ASSIGNMENTS):
            return False
        if t.kind != "name" and t.text not in ("*", "("):
            return False
        while i < end:
            if self.is_op(i, "++", "--", *ASSIGNMENTS):
                return True
            i = self.partners[i] + 1 if self.is_op(i, "(", "[", "{") else i + 1
        return False

    def look_at_locks(self, statements):
        """A lock and all unlocks of it in the function, taken out together."""
        pairs = {}
        for i in statements:
            if self.is_op(i + 1, "(") and (LOCK.match(self.text(i)) or UNLOCK.match(self.text(i))):
                what = self.quote(*self.arguments(i)[0])
                pairs.setdefault(what, []).append(i)
        for what, places in pairs.items():
            locks = [i for i in places if LOCK.match(self.text(i))]
            if not locks:
                continue
            edits = [(self.tokens[i].start, self.tokens[self.end_of_statement(i)].end, ";")
                     for i in places]
            self.add("lock", locks[0], f"lock and unlock of {what} removed", edits,
                     [self.line(i) for i in places])

    # --- the file ---

    def functions(self):
        """(name, its brace, the brace's partner)"""
        for i, t in enumerate(self.tokens):
            if t.text != "{" or t.start not in self.line_starts or not self.is_op(i - 1, ")"):
                continue
            k = self.partners[i - 1]
            if self.tokens[k - 1].kind == "name" and i in self.partners:
                yield self.text(k - 1), i, self.partners[i]

    def look_at_enums(self, bodies):
        """Constants in enums: noticed where the name is used."""
        for i, t in enumerate(self.tokens):
            if t.text != "enum" or any(first < i < last for _, first, last in bodies):
                continue
            opened = i + 1 if self.is_op(i + 1, "{") else i + 2
            if not self.is_op(opened, "{") or opened not in self.partners:
                continue
            names = {}
            for k in range(opened + 1, self.partners[opened]):
                if self.tokens[k].kind == "name" and self.is_op(k + 1, "="):
                    names = {self.text(k)}
                if self.tokens[k].kind == "number" and names:
                    lines = [self.line(n) for n, u in enumerate(self.tokens)
                             if u.text in names and any(a < n < b for _, a, b in bodies)]
                    before = len(self.mutants)
                    self.function, self.last = "enum", self.partners[opened]
                    self.change_number(k)
                    self.mutants[before:] = [
                        Mutant(m.file, m.line, m.function, m.kind, m.text, m.edits, tuple(lines))
                        for m in self.mutants[before:] if lines]

    def find(self):
        bodies = list(self.functions())
        for self.function, self.first, self.last in bodies:
            statements = self.find_statements()
            for i in range(self.first + 1, self.last):
                self.look_at_token(i)
            for i in statements:
                self.look_at_statement(i)
            self.look_at_locks(statements)
        self.look_at_enums(bodies)
        return self.mutants


def find_mutants(file, source):
    """All mutants of a file, in the order of their places."""
    return sorted(Finder(file, source).find(), key=lambda m: (m.edits[0][0], m.kind, m.text))
