package flatten

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Inode is a file, directory, symlink, device or fifo. Once a layer is merged,
// inodes other than directories do not change.
type Inode struct {
	Attr *Attr
	// Link is the target of a symlink, verbatim.
	Link string
	Size int64
	Sec  int64
	// Off is where the content lies in the spool of Layer, or NoBody.
	Off int64
	// Sum is the content's hash where it is known from a kept base layer.
	Sum *Sum

	children *children

	Nsec int32
	// Layer is the layer whose entry made the inode, Ordinal that entry's place;
	// -1 for a directory that no entry describes.
	Layer, Ordinal int32
	Kind           Kind
	// linked is set when a hardlink was ever bound to the inode.
	linked bool
}

// children are the names of a directory.
type children struct {
	names map[string]*Inode
	// owner is the tree generation that may change names in place.
	owner int32
	// marks exist only while a layer's own tree is built.
	marks *marks
	// matched are the names that rules want to remove, while a tree is pruned.
	matched map[string]int
}

// Tree is a filesystem. Snapshots share what they have in common.
type Tree struct {
	root *Inode
	gen  int32
}

// NewTree returns a tree that holds an empty root directory.
func NewTree() *Tree {
	return &Tree{root: newDir(0)}
}

func newDir(owner int32) *Inode {
	return &Inode{
		Kind: Dir, Attr: impliedAttr, Off: NoBody, Layer: -1, Ordinal: -1,
		children: &children{names: map[string]*Inode{}, owner: owner},
	}
}

// Snapshot returns the tree as it is now; later changes to t do not show in it.
func (t *Tree) Snapshot() *Tree {
	s := &Tree{root: t.root, gen: t.gen}
	t.gen++
	return s
}

// fork returns a tree that begins as t is and does not change t, which must not
// change either any more.
func (t *Tree) fork() *Tree { return &Tree{root: t.root, gen: t.gen + 1} }

// own returns a directory that t may change in place: dir itself or a copy. The
// caller stores it where dir was.
func (t *Tree) own(dir *Inode) *Inode {
	if dir.children.owner == t.gen {
		return dir
	}
	c := *dir
	c.children = &children{names: maps.Clone(dir.children.names), owner: t.gen, matched: dir.children.matched}
	return &c
}

// Explicit reports whether an entry of a layer describes the inode.
func (n *Inode) Explicit() bool { return n.Layer >= 0 }

// Lookup returns the inode at a canonical path, following no symlink, or nil.
func (t *Tree) Lookup(path string) *Inode {
	n := t.root
	if path == "" {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n = n.child(name); n == nil {
			return nil
		}
	}
	return n
}

func (n *Inode) child(name string) *Inode {
	if n == nil || n.Kind != Dir {
		return nil
	}
	return n.children.names[name]
}

// sorted returns the names of a directory in byte order.
func (n *Inode) sorted() []string {
	names := make([]string, 0, len(n.children.names))
	for name := range n.children.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// All yields every path with its inode: parents first, siblings in byte order.
// The root itself comes first, as "".
func (t *Tree) All() iter.Seq2[string, *Inode] {
	return func(yield func(string, *Inode) bool) {
		if yield("", t.root) {
			t.root.walk("", yield)
		}
	}
}

func (n *Inode) walk(prefix string, yield func(string, *Inode) bool) bool {
	for _, name := range n.sorted() {
		c := n.children.names[name]
		if !yield(prefix+name, c) {
			return false
		}
		if c.Kind == Dir && !c.walk(prefix+name+"/", yield) {
			return false
		}
	}
	return true
}

// LiveBytes returns the content that is left of each of n layers, counted once
// for every inode.
func (t *Tree) LiveBytes(n int) []int64 {
	live := make([]int64, n)
	seen := map[*Inode]bool{}
	for _, c := range t.All() {
		if c.Size == 0 || seen[c] {
			continue
		}
		if c.linked {
			seen[c] = true
		}
		live[c.Layer] += c.Size
	}
	return live
}

// byOrdinal orders inodes as their entries were read.
func byOrdinal(a, b *Inode) int {
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Ordinal, b.Ordinal))
}
