package flatten

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A tree takes about 70 bytes for a name with its inode, and has hardly a pointer for
// the garbage collector to follow:
//
//   - an inode is a [node] of 40 bytes in a table and is known by its number; the
//     node of a directory, which has but one name, tells name and parent as well;
//   - the children of a directory are one slice of [child], sorted by name: where
//     the name is, and the number of the node;
//   - names and targets of symlinks lie in blocks of text; long targets are read
//     back from where they came from.
//
// Trees that come from one another, as snapshots do, share one [store]. A tree may
// change a directory in place if it made it since it was last shared: then its number
// is not below from. Others are copied and get a new number. An [Inode] is what
// callers see of a node.

// Tree is a filesystem. Snapshots share what they have in common.
type Tree struct {
	*store
	root, from number
}

// store holds what trees are made of.
type store struct {
	nodes table[node]
	// lists are the children of directories.
	lists table[[]child]
	texts texts
	sums  table[Sum]
	// kept are the sums of inodes with several names whose content was kept.
	kept  map[number]Sum
	attrs attrTable
	// long return the targets that are not held, err is the first error of one.
	long []func() (string, error)
	err  error
}

// number stands for a node; 0 is none.
type number uint32

type node struct {
	// size is the length of a file; of a directory it is parent and name.
	size int64
	sec  int64
	// at is, of a file, where its content lies in the spool of its layer, below
	// NoBody the number of its sum; of a symlink, the target, below 0 a long one; of
	// a directory, the list of its children, 0 for none yet.
	at            int64
	nsec, ordinal int32
	attr          uint32
	layer         int16
	kind          Kind
	flags         flags
}

// child is a name in a directory.
type child struct {
	name text
	node number
}

type flags uint8

const (
	// linked is set when a hardlink was ever bound to the inode.
	linked flags = 1 << iota
	// realDir is set, in a layer's own tree, when an entry, not only a marker, lies
	// in the directory.
	realDir
	// opaqueDir hides, in a layer's own tree, the lower layers' children.
	opaqueDir
)

// Inode is a file, directory, symlink, device or fifo, as it was when it was asked for.
type Inode struct {
	Attr *Attr
	// Link is the target of a symlink, verbatim; "" if it could not be read back.
	Link string
	Size int64
	Sec  int64
	// Off is where the content lies in the spool of Layer, or NoBody.
	Off int64
	// Sum is the content's hash where it is known from a kept base layer.
	Sum *Sum

	Nsec int32
	// Layer is the layer whose entry made the inode, Ordinal that entry's place;
	// -1 for a directory that no entry describes.
	Layer, Ordinal int32
	Kind           Kind

	number number
	node   *node
}

// Explicit reports whether an entry of a layer describes the inode.
func (n *Inode) Explicit() bool { return n.Layer >= 0 }

// Keep tells where the content of a file, which was not kept when its layer was read,
// lies now.
func (n *Inode) Keep(off int64) {
	n.Off = off
	if n.node != nil {
		n.node.at = off
	}
}

// NewTree returns a tree that holds an empty root directory.
func NewTree() *Tree {
	s := &store{kept: map[number]Sum{}, attrs: newAttrTable()}
	s.nodes.add(node{})
	s.lists.add(nil)
	return &Tree{store: s, root: s.newDir()}
}

func (s *store) newDir() number {
	return number(s.nodes.add(node{kind: Dir, layer: -1, ordinal: -1}))
}

// Snapshot returns the tree as it is now; later changes to t do not show in it.
func (t *Tree) Snapshot() *Tree {
	t.from = number(t.nodes.n)
	return t.fork()
}

// fork returns a tree that begins as t is and does not change t, which must not
// change either any more.
func (t *Tree) fork() *Tree { return &Tree{store: t.store, root: t.root, from: number(t.nodes.n)} }

// own returns a directory that t may change in place: dir itself or a copy. The
// caller stores it where dir was.
func (t *Tree) own(dir number) number {
	if dir >= t.from {
		return dir
	}
	return t.withChildren(dir, slices.Clone(t.children(dir)))
}

// withChildren gives a directory that t may change in place these children.
func (t *Tree) withChildren(dir number, list []child) number {
	if dir < t.from {
		c := *t.node(dir)
		c.at = 0
		dir = number(t.nodes.add(c))
	}
	t.setChildren(dir, list)
	return dir
}

func (s *store) node(n number) *node { return s.nodes.at(uint32(n)) }

func (s *store) isDir(n number) bool { return n != 0 && s.node(n).kind == Dir }

func (n *node) explicit() bool { return n.layer >= 0 }

func (n *node) isLinked() bool { return n.flags&linked != 0 }

// setPlace tells where a directory is. Both stay right in every copy: the parent may
// have been copied since, but never under another name.
func (n *node) setPlace(parent number, name text) { n.size = int64(parent)<<32 | int64(name) }

func (n *node) place() (parent number, name text) { return number(n.size >> 32), text(n.size) }

// path returns the path of a directory with a slash behind it, "" for the root.
func (s *store) path(dir number) string {
	var names []string
	for n := s.node(dir); n.size != 0; {
		parent, name := n.place()
		names = append(names, s.texts.at(name))
		n = s.node(parent)
	}
	if names == nil {
		return ""
	}
	slices.Reverse(names)
	return strings.Join(names, "/") + "/"
}

// target returns where a symlink leads, "" for another node and if it cannot be read
// back; then err is set.
func (s *store) target(n *node) string {
	switch {
	case n.kind != Symlink:
		return ""
	case n.at >= 0:
		return s.texts.at(text(n.at))
	}
	target, err := s.long[-1-n.at]()
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("reading the target of a symlink: %w", err)
	}
	return target
}

// bytes returns the length of a file, 0 for another node.
func (n *node) bytes() int64 {
	if n.kind != File {
		return 0
	}
	return n.size
}

// inode returns what callers see of a node, nil for none.
func (s *store) inode(n number) *Inode {
	if n == 0 {
		return nil
	}
	i := s.view(n)
	return &i
}

func (s *store) view(n number) Inode {
	x := s.node(n)
	i := Inode{
		Attr: s.attrs.at(x.attr), Link: s.target(x), Size: x.bytes(), Sec: x.sec, Off: NoBody,
		Nsec: x.nsec, Layer: int32(x.layer), Ordinal: x.ordinal, Kind: x.kind, number: n, node: x,
	}
	if x.kind == File {
		i.Off, i.Sum = max(x.at, NoBody), s.sum(x)
	}
	return i
}

// sum returns the sum of a file that is known from reading, or nil.
func (s *store) sum(n *node) *Sum {
	if n.at >= NoBody {
		return nil
	}
	return s.sums.at(uint32(NoBody - 1 - n.at))
}

// children returns what is in a directory, in byte order; nothing for another node.
func (s *store) children(dir number) []child {
	if !s.isDir(dir) {
		return nil
	}
	return *s.lists.at(uint32(s.node(dir).at))
}

func (s *store) setChildren(dir number, list []child) {
	n := s.node(dir)
	switch {
	case n.at != 0:
		*s.lists.at(uint32(n.at)) = list
	case len(list) > 0:
		n.at = int64(s.lists.add(list))
	}
}

func (s *store) name(c child) string { return s.texts.at(c.name) }

// child returns the node of a name in a directory, 0 if there is none.
func (s *store) child(dir number, name string) number {
	list := s.children(dir)
	if i, ok := s.search(list, name); ok {
		return list[i].node
	}
	return 0
}

// search returns the place of a name in a list, or where it belongs.
func (s *store) search(list []child, name string) (int, bool) {
	return slices.BinarySearchFunc(list, name, func(c child, name string) int { return strings.Compare(s.name(c), name) })
}

// seek is search from a place on, quick where the name is near.
func (s *store) seek(list []child, from int, name string) (int, bool) {
	step := 1
	for from+step <= len(list) && s.name(list[from+step-1]) < name {
		from += step
		step *= 2
	}
	i, ok := s.search(list[from:min(from+step, len(list))], name)
	return from + i, ok
}

// Lookup returns the inode at a canonical path, following no symlink, or nil.
func (t *Tree) Lookup(path string) *Inode { return t.inode(t.lookup(path)) }

func (t *Tree) lookup(path string) number {
	n := t.root
	if path == "" {
		return n
	}
	for name := range strings.SplitSeq(path, "/") {
		if n = t.child(n, name); n == 0 {
			return 0
		}
	}
	return n
}

// All yields every path with its inode: parents first, siblings in byte order.
// The root itself comes first, as "".
func (t *Tree) All() iter.Seq2[string, *Inode] {
	return func(yield func(string, *Inode) bool) {
		if yield("", t.inode(t.root)) {
			t.walk(t.root, "", yield)
		}
	}
}

func (t *Tree) walk(dir number, prefix string, yield func(string, *Inode) bool) bool {
	for _, c := range t.children(dir) {
		p := prefix + t.name(c)
		if !yield(p, t.inode(c.node)) {
			return false
		}
		if t.isDir(c.node) && !t.walk(c.node, p+"/", yield) {
			return false
		}
	}
	return true
}

// each calls do for every name below a directory.
func (t *Tree) each(dir number, do func(number, *node)) {
	for _, c := range t.children(dir) {
		do(c.node, t.node(c.node))
		t.each(c.node, do)
	}
}

// LiveBytes returns the content that is left of each of n layers, counted once
// for every inode.
func (t *Tree) LiveBytes(n int) []int64 {
	live := make([]int64, n)
	var seen numbers
	t.each(t.root, func(i number, x *node) {
		if x.bytes() == 0 || seen.has(i) {
			return
		}
		if x.isLinked() {
			seen.add(i)
		}
		live[x.layer] += x.size
	})
	return live
}

// linkCounts returns how many names every inode has that ever had a hardlink.
func (t *Tree) linkCounts() (counts column[int32]) {
	t.each(t.root, func(i number, x *node) {
		if x.isLinked() {
			*counts.at(i)++
		}
	})
	return counts
}

// byOrdinal orders inodes as their entries were read.
func byOrdinal(a, b *Inode) int {
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Ordinal, b.Ordinal))
}
