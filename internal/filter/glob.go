package filter

import (
	"errors"
	"fmt"
	"math/bits"
	"path"
	"strings"
	"unicode/utf8"
)

// A glob is one compiled .dockerignore pattern. It is our own matcher, not
// moby/patternmatcher or doublestar: a path is bytes, and there "." of a regexp
// stops at a newline and every byte that is not UTF-8 equals every other one.
// The syntax and its corner cases are those of moby/patternmatcher, and a test
// holds the two together on names both can express.
//
// The pattern is run as a set of states over the name, so that time is bounded
// by pattern length × name length whatever the name looks like.
type glob struct {
	text   string  // the clean pattern
	prefix string  // what every match begins with, byte for byte
	need   string  // the longest run of bytes that every match holds after the prefix
	prog   []token // the pattern after the prefix
}

type kind uint8

const (
	char    kind = iota // one given character
	anyChar             // ?: one character, not /
	class               // [...]: one character, not /
	star                // *: any run without /
	enter               // ** with more to come: nothing, or a loop
	loop                // inside **: any run that ends in /
	rest                // ** at an end: any run
)

type token struct {
	kind   kind
	char   rune
	spans  []span
	negate bool
}

// A span is a range of characters, both ends included.
type span struct{ lo, hi rune }

// rawByte + b stands for the byte b where a name or a pattern is not UTF-8, so
// that such a byte equals itself and no character.
const rawByte = utf8.MaxRune + 1

var (
	errRoot      = errors.New("the pattern names the root of the image: write ** for everything in it")
	errOutside   = errors.New("the pattern leads out of the image")
	errUnclosed  = errors.New("the character class is not closed: write \\[ for a literal [")
	errClass     = errors.New("the character class is malformed: write \\- or \\] for a literal - or ]")
	errSlash     = errors.New("a character class cannot hold /")
	errBackslash = errors.New("the pattern ends in \\: write \\\\ for a literal \\")
)

// cleanPattern returns a pattern in the form of a canonical path: no leading or
// trailing slash, no "." or ".." element.
func cleanPattern(pattern string) (string, error) {
	clean := path.Clean(strings.TrimLeft(pattern, "/"))
	switch {
	case clean == ".":
		return "", errRoot
	case clean == "..", strings.HasPrefix(clean, "../"):
		return "", errOutside
	}
	return clean, nil
}

// compile cleans a pattern and compiles it.
func compile(pattern string) (*glob, error) {
	text, err := cleanPattern(pattern)
	if err != nil {
		return nil, err
	}
	prog, err := tokenize(text)
	if err != nil {
		return nil, err
	}
	prefix, n := literal(prog)
	g := &glob{text: text, prefix: prefix, prog: prog[n:]}
	for i := 0; i < len(g.prog); i++ {
		run, n := literal(g.prog[i:])
		if len(run) > len(g.need) {
			g.need = run
		}
		i += n
	}
	return g, nil
}

// literal returns the bytes of the leading literal characters of a program and
// how many tokens they take.
func literal(prog []token) (string, int) {
	var b []byte
	for i, t := range prog {
		switch {
		case t.kind != char:
			return string(b), i
		case t.char >= rawByte:
			b = append(b, byte(t.char-rawByte))
		default:
			b = utf8.AppendRune(b, t.char)
		}
	}
	return string(b), len(prog)
}

// tokenize splits a clean pattern into tokens.
func tokenize(p string) ([]token, error) {
	var prog []token
	if after, ok := strings.CutPrefix(p, "**"); ok && after != "" && !strings.ContainsAny(after, `*?[]\`) && after[0] != '/' {
		// moby/patternmatcher reads "**.log" as "ends in .log", but "a**.log" as "a, any directories, .log".
		prog, p = append(prog, token{kind: rest}), after
	}
	for p != "" {
		switch {
		case strings.HasPrefix(p, "**"):
			if p = strings.TrimPrefix(p[2:], "/"); p == "" {
				return append(prog, token{kind: rest}), nil
			}
			prog = append(prog, token{kind: enter}, token{kind: loop})
		case p[0] == '*':
			prog, p = append(prog, token{kind: star}), p[1:]
		case p[0] == '?':
			prog, p = append(prog, token{kind: anyChar}), p[1:]
		case p[0] == '[':
			t, n, err := parseClass(p)
			if err != nil {
				return nil, err
			}
			prog, p = append(prog, t), p[n:]
		default:
			if p[0] == '\\' {
				if p = p[1:]; p == "" {
					return nil, errBackslash
				}
			}
			r, n := decode(p)
			prog, p = append(prog, token{kind: char, char: r}), p[n:]
		}
	}
	return prog, nil
}

// parseClass parses the character class that p begins with, by the rules of
// path.Match, and returns how many bytes it takes.
func parseClass(p string) (token, int, error) {
	t := token{kind: class}
	rest := p[1:]
	if strings.HasPrefix(rest, "^") {
		t.negate, rest = true, rest[1:]
	}
	for {
		if t.spans != nil && strings.HasPrefix(rest, "]") {
			return t, len(p) - len(rest) + 1, nil
		}
		lo, n, err := classChar(rest)
		if err != nil {
			return t, 0, err
		}
		hi := lo
		rest = rest[n:]
		if strings.HasPrefix(rest, "-") {
			if hi, n, err = classChar(rest[1:]); err != nil {
				return t, 0, err
			}
			rest = rest[1+n:]
		}
		if hi < lo {
			return t, 0, fmt.Errorf("the range %q in the character class runs backwards", string(lo)+"-"+string(hi))
		}
		t.spans = append(t.spans, span{lo, hi})
	}
}

// classChar returns the character, escaped or not, that s begins with.
func classChar(s string) (rune, int, error) {
	escape := 0
	switch {
	case s == "":
		return 0, 0, errUnclosed
	case s[0] == '-', s[0] == ']':
		return 0, 0, errClass
	case s[0] == '\\':
		if escape = 1; len(s) == 1 {
			return 0, 0, errUnclosed
		}
	}
	r, n := decode(s[escape:])
	if r == '/' {
		return 0, 0, errSlash
	}
	return r, escape + n, nil
}

// decode returns the character that s begins with and its length in bytes.
func decode(s string) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return rawByte + rune(s[0]), 1
	}
	return r, n
}

// match reports whether the pattern matches the whole name; with below, also
// whether it matches a directory above it.
func (g *glob) match(name string, below bool) bool {
	name, ok := strings.CutPrefix(name, g.prefix)
	if !ok || !strings.Contains(name, g.need) {
		return false
	}
	var buf [2][4]uint64 // most patterns fit, and the heap is left alone
	cur, next := states(buf[0][:], len(g.prog)), states(buf[1][:], len(g.prog))
	if g.add(cur, 0) {
		return true
	}
	for name != "" {
		if below && name[0] == '/' && g.accepts(cur) {
			return true
		}
		r, n := decode(name)
		name = name[n:]
		clear(next)
		alive, done := g.step(cur, next, r)
		if done || !alive {
			return done
		}
		cur, next = next, cur
	}
	return g.accepts(cur)
}

// states returns a set with room for the states 0 to n, where n accepts.
func states(buf []uint64, n int) []uint64 {
	if words := n/64 + 1; words > len(buf) {
		return make([]uint64, words)
	}
	return buf[:n/64+1]
}

func (g *glob) accepts(set []uint64) bool {
	n := len(g.prog)
	return set[n/64]&(1<<(n%64)) != 0
}

// add adds state i and all that follow from it without a character. It reports
// whether a trailing ** is reached, which accepts whatever comes.
func (g *glob) add(set []uint64, i int) bool {
	for {
		set[i/64] |= 1 << (i % 64)
		if i == len(g.prog) {
			return false
		}
		switch g.prog[i].kind {
		case star:
			i++
		case rest:
			if i++; i == len(g.prog) {
				return true
			}
		case enter:
			set[(i+1)/64] |= 1 << ((i + 1) % 64)
			i += 2
		default:
			return false
		}
	}
}

// step feeds the character r to every state of cur and collects the outcome in
// next. It reports whether any state is left and whether a trailing ** is reached.
func (g *glob) step(cur, next []uint64, r rune) (alive, done bool) {
	for w, set := range cur {
		for ; set != 0; set &= set - 1 {
			i := w*64 + bits.TrailingZeros64(set)
			if i == len(g.prog) {
				continue
			}
			stays, advances := g.prog[i].feed(r)
			if stays {
				next[w] |= 1 << (i % 64)
			}
			if advances && g.add(next, i+1) {
				return true, true
			}
			alive = alive || stays || advances
		}
	}
	return alive, false
}

// feed reports whether the token takes r and goes on, and whether it takes r as
// its last character.
func (t *token) feed(r rune) (stays, advances bool) {
	switch t.kind {
	case char:
		return false, r == t.char
	case anyChar:
		return false, r != '/'
	case class:
		return false, r != '/' && t.holds(r) != t.negate
	case star:
		return r != '/', r != '/'
	case loop:
		return true, r == '/'
	case rest:
		return true, true
	}
	return false, false // enter: its successors are states of their own
}

// holds reports whether r is in one of the spans of a character class.
func (t *token) holds(r rune) bool {
	for _, s := range t.spans {
		if s.lo <= r && r <= s.hi {
			return true
		}
	}
	return false
}
