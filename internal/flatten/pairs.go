package flatten

import (
	"iter"
	"strings"
)

// spot is a node of one of two trees that are walked together, which need not share
// their store.
type spot struct {
	*store
	number
}

func rootOf(t *Tree) spot {
	if t == nil {
		return spot{store: &store{}}
	}
	return spot{t.store, t.root}
}

func (s spot) dir() bool { return s.isDir(s.number) }

func (s spot) get() *node { return s.node(s.number) }

// to returns another node of the same tree.
func (s spot) to(n number) spot { return spot{s.store, n} }

// pair is a name in two directories, with a node of 0 where it is not there.
type pair struct {
	name string
	a, b spot
	// at is its place among the children of the first directory.
	at int
}

// pairs yields the names that are in a or in b, in byte order.
func pairs(a, b spot) iter.Seq[pair] {
	return func(yield func(pair) bool) {
		x, y, i, j := a.children(a.number), b.children(b.number), 0, 0
		for i < len(x) || j < len(y) {
			p := pair{a: a.to(0), b: b.to(0), at: i}
			order := order(a, b, x[i:], y[j:])
			if order <= 0 {
				p.name, p.a.number = a.name(x[i]), x[i].node
				i++
			}
			if order >= 0 {
				p.name, p.b.number = b.name(y[j]), y[j].node
				j++
			}
			if !yield(p) {
				return
			}
		}
	}
}

// order compares the first names of two lists, of which one may be at its end.
func order(a, b spot, x, y []child) int {
	switch {
	case len(x) == 0:
		return 1
	case len(y) == 0:
		return -1
	case x[0].name == y[0].name && a.store == b.store:
		return 0
	}
	return strings.Compare(a.name(x[0]), b.name(y[0]))
}
