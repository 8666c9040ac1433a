package tartest

import (
	"fmt"
	"strings"
)

// Source makes choices; a property test shrinks them.
type Source interface {
	// Intn returns a number from 0 up to but not including n.
	Intn(n int) int
}

// Names that random stacks use: few, so that layers meet, and odd ones.
var randomNames = []string{"a", "b", "c", "d/a", "d/b", "d/e/a", "d/e/b", "f/a", "f/g/h", "x.wh.y", "\u00e9\xff", "n*m"}

var randomDirs = []string{"d", "d/e", "f", "f/g", "a", "b"}

// Random returns layers in the notation of the package that read without an
// error. With agreed, it leaves out what engines disagree about: names marked and
// present in one layer, links across layers, differing link headers, entries and
// markers below symlinks, files or directories that have no entry.
func Random(s Source, agreed bool) string {
	layers := make([]string, 1+s.Intn(5))
	for i := range layers {
		layers[i] = randomLayer(s, agreed)
	}
	return strings.Join(layers, " | ")
}

// stack is one layer while it is made.
type randomState struct {
	src    Source
	agreed bool
	// kinds of the names of this layer: 'f', 'd', 'l', '✗'.
	kinds  map[string]rune
	tokens []string
}

func randomLayer(s Source, agreed bool) string {
	st := &randomState{src: s, agreed: agreed, kinds: map[string]rune{}}
	for range 1 + s.Intn(7) {
		st.step()
	}
	return strings.Join(st.tokens, " ")
}

func (st *randomState) step() {
	name := randomNames[st.src.Intn(len(randomNames))]
	switch st.src.Intn(10) {
	case 0, 1, 2:
		st.file(name)
	case 3, 4:
		st.dir(randomDirs[st.src.Intn(len(randomDirs))])
	case 5:
		st.add(name, 'l', name+"→"+[]string{"a", "/d", "../b", "nowhere", "d/e"}[st.src.Intn(5)])
	case 6:
		st.link(name)
	case 7, 8:
		st.mark(name)
	case 9:
		st.opaque(randomDirs[st.src.Intn(len(randomDirs))])
	}
}

func (st *randomState) file(name string) {
	st.add(name, 'f', fmt.Sprintf("%s=%d%s", name, st.src.Intn(3), st.attrs(true)))
}

// attrs returns attributes; the same choice gives the same text.
func (st *randomState) attrs(xattr bool) string {
	s := []string{"", "", "(0600)", "(0755,u3,g4)", "(04755,t9)"}[st.src.Intn(5)]
	if xattr {
		s += []string{"", "", "{user.k=v}"}[st.src.Intn(3)]
	}
	return s
}

// free makes the parents of a name in this layer and reports whether it can be used.
func (st *randomState) free(name string) bool {
	for i, c := range name {
		if c == '/' {
			parent := name[:i]
			switch st.kinds[parent] {
			case 'd':
			case 0:
				if st.agreed || st.src.Intn(2) == 0 {
					st.dir(parent)
				}
				if st.kinds[parent] != 'd' && (st.agreed || st.kinds[parent] != 0) {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// below reports whether the layer has names below a name.
func (st *randomState) below(name string) bool {
	for n := range st.kinds {
		if strings.HasPrefix(n, name+"/") {
			return true
		}
	}
	return false
}

func (st *randomState) add(name string, kind rune, token string) {
	old := st.kinds[name]
	if !st.free(name) || st.below(name) || st.agreed && old != 0 || old == 'd' {
		return
	}
	st.kinds[name] = kind
	st.tokens = append(st.tokens, token)
}

func (st *randomState) dir(name string) {
	if old := st.kinds[name]; old != 0 || !st.free(name) {
		return
	}
	if st.kinds[name] == 0 {
		st.kinds[name] = 'd'
		st.tokens = append(st.tokens, name+"/"+[]string{"", "", "(0700)", "(01777)", "(0755,u3,t5)"}[st.src.Intn(5)])
	}
}

func (st *randomState) link(name string) {
	for _, target := range randomNames {
		if st.kinds[target] == 'f' && target != name && st.src.Intn(2) == 0 {
			for _, token := range st.tokens {
				if rest, ok := strings.CutPrefix(token, target+"="); ok {
					i := strings.IndexAny(rest+"(", "({")
					st.add(name, 'h', name+"⇒"+target+rest[i:])
					return
				}
			}
		}
	}
}

func (st *randomState) mark(name string) {
	if st.agreed && (st.kinds[name] != 0 || st.below(name)) {
		return
	}
	if !st.free(name) || st.kinds[name] == '✗' {
		return
	}
	if st.agreed {
		st.kinds[name] = '✗'
	}
	st.tokens = append(st.tokens, "✗"+name)
}

func (st *randomState) opaque(name string) {
	st.dir(name)
	if st.kinds[name] == 'd' {
		st.tokens = append(st.tokens, name+"◊")
	}
}
