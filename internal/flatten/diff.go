package flatten

import (
	"cmp"
	"iter"
	"slices"
)

// ContentFunc returns the SHA-256 of a file whose content was kept but not hashed.
type ContentFunc func(*Inode) (Sum, error)

// Item is one header of the layer that a [Changeset] makes up.
type Item struct {
	// Path is canonical; the root is "". For a whiteout it is what is removed.
	Path string
	// Kind is the inode's, Hardlink for a further name, or Whiteout.
	Kind Kind
	// Inode is nil for a whiteout.
	Inode *Inode
	// Link is the first name of a Hardlink.
	Link string

	// name is the last component of Path, as the tree holds it.
	name string
}

// Changeset is what turns one filesystem into another: a layer to be written.
//
// It holds that no path is both marked and present; that nothing lies below a
// marked path or a non-directory; that a whiteout stands only for what the base
// has, in a directory that both have; that every parent is there with its final
// attributes; and that link groups are whole: the first name carries the
// content, the others follow.
type Changeset struct {
	base, final spot
	// same holds inodes that equal their counterpart in the base.
	same numbers
	// whole holds inodes whose link group differs from the base's.
	whole numbers
	// dirty holds directories with anything to write in or below them.
	dirty numbers
}

// Diff returns the changeset from base to final; a nil base is an empty
// filesystem. It fails only if content or [Entry.LinkAgain] does.
func Diff(base, final *Tree, content ContentFunc) (*Changeset, error) {
	c := &Changeset{base: rootOf(base), final: rootOf(final)}
	if base == nil {
		return c, nil
	}
	g := grouper{c: c, content: content}
	if err := g.walk(c.final, c.base); err != nil {
		return nil, err
	}
	g.settle()
	c.mark(c.final, c.base)
	return c, cmp.Or(c.base.err, c.final.err)
}

// group is what the base has under the names of one inode of the final tree.
type group struct {
	base         number
	known, split bool
}

// grouper compares inodes name by name and finds the link groups that the base
// does not have as they are.
type grouper struct {
	c       *Changeset
	content ContentFunc
	groups  column[group]
	// claims holds which inode of the final tree the names of a linked inode of
	// the base belong to.
	claims column[number]
}

func (g *grouper) walk(dir, base spot) error {
	for p := range pairs(dir, base) {
		if p.a.number == 0 {
			continue
		}
		if p.a.dir() {
			if err := g.walk(p.a, p.b); err != nil {
				return err
			}
			continue
		}
		same, err := sameInode(p.b, p.a, g.content)
		if err != nil {
			return err
		}
		g.join(p.a, p.b, same)
	}
	return nil
}

func (g *grouper) join(f, b spot, same bool) {
	if same && b.get().isLinked() {
		owner := g.claims.at(b.number)
		if *owner == 0 {
			*owner = f.number
		}
		if *owner != f.number {
			g.c.whole.add(f.number)
		}
	}
	if !f.get().isLinked() {
		if same && f != b {
			g.c.same.add(f.number)
		}
		return
	}
	gr := g.groups.at(f.number)
	if !gr.known {
		gr.known, gr.base = true, b.number
	}
	gr.split = gr.split || !same || gr.base != b.number
}

// settle decides for every link group whether the base has it: all names on one
// inode that equals the final one. More names in the base do no harm.
func (g *grouper) settle() {
	for f, gr := range g.groups {
		switch {
		case gr.split:
			g.c.whole.add(number(f))
		case gr.known:
			g.c.same.add(number(f))
		}
	}
}

// mark finds the directories with anything to write in or below them.
func (c *Changeset) mark(dir, base spot) bool {
	dirty := !sameHeader(base, dir)
	for p := range pairs(dir, base) {
		switch {
		case p.a.number == 0:
			dirty = true
		case p.a.dir() && p.b.dir():
			dirty = c.mark(p.a, p.b) || dirty
		default:
			dirty = dirty || c.changed(p.a, p.b)
		}
	}
	if dirty {
		c.dirty.add(dir.number)
	}
	return dirty
}

// changed reports whether a name that is no directory in both trees is written.
func (c *Changeset) changed(f, b spot) bool {
	return b.number == 0 || c.whole.has(f.number) || f != b && !c.same.has(f.number)
}

// Items yields the headers of the layer: a directory, then the whiteouts in it,
// then its children, siblings in byte order.
func (c *Changeset) Items() iter.Seq[Item] {
	return func(yield func(Item) bool) { c.walk(nil, yield) }
}

// walk yields the items; of directories that only has, those it names alone.
func (c *Changeset) walk(only map[number][]string, yield func(Item) bool) {
	w := itemWalk{c: c, only: only, yield: yield}
	root := c.final
	if root.get().explicit() && (c.base.number == 0 || !sameHeader(c.base, root)) &&
		!yield(Item{Kind: Dir, Inode: root.inode(root.number)}) {
		return
	}
	w.dir(root, c.base, "")
}

type itemWalk struct {
	c     *Changeset
	only  map[number][]string
	first column[firstName]
	yield func(Item) bool
}

// firstName is the first name of an inode that has several; no name is the text 0.
type firstName struct {
	dir  number
	name text
}

// dir yields what is in a directory; base has the number 0 where there was none.
func (w *itemWalk) dir(dir, base spot, prefix string) bool {
	if base.number != 0 {
		if !w.c.dirty.has(dir.number) {
			return true
		}
		for p := range w.pairs(dir, base) {
			if p.a.number == 0 && !w.yield(Item{Path: prefix + p.name, Kind: Whiteout, name: p.name}) {
				return false
			}
		}
	}
	for p := range w.pairs(dir, base) {
		if p.a.number != 0 && !w.child(dir, p, prefix+p.name) {
			return false
		}
	}
	return true
}

// pairs yields the names in a directory, or in what the base has there, that may be
// written.
func (w *itemWalk) pairs(dir, base spot) iter.Seq[pair] {
	names, ok := w.only[dir.number]
	if !ok {
		return pairs(dir, base)
	}
	return func(yield func(pair) bool) {
		list := dir.children(dir.number)
		for _, name := range names {
			p := pair{name: name, a: dir.to(0), b: base.to(base.child(base.number, name))}
			at, ok := dir.search(list, name)
			if ok {
				p.at, p.a.number = at, list[at].node
			}
			if !yield(p) {
				return
			}
		}
	}
}

func (w *itemWalk) child(dir spot, p pair, full string) bool {
	if !p.a.dir() {
		return !w.c.changed(p.a, p.b) || w.yield(w.item(dir, p, full))
	}
	b := p.b
	if !b.dir() {
		b = b.to(0)
	}
	if b.number != 0 && !w.c.dirty.has(p.a.number) {
		return true
	}
	return w.yield(Item{Path: full, Kind: Dir, Inode: p.a.inode(p.a.number), name: p.name}) && w.dir(p.a, b, full+"/")
}

func (w *itemWalk) item(dir spot, p pair, full string) Item {
	f := p.a.get()
	it := Item{Path: full, Kind: f.kind, Inode: p.a.inode(p.a.number), name: p.name}
	if !f.isLinked() {
		return it
	}
	first := w.first.at(p.a.number)
	if first.name == 0 {
		*first = firstName{dir.number, dir.children(dir.number)[p.at].name}
	} else {
		it.Kind, it.Link = Hardlink, dir.path(first.dir)+dir.texts.at(first.name)
	}
	return it
}

// Empty reports whether there is nothing to write.
func (c *Changeset) Empty() bool {
	for range c.Items() {
		return false
	}
	return true
}

// Missing returns the files to be written whose content was not kept, in the
// order of their layers and entries: new names for files of a kept base layer.
func (c *Changeset) Missing() []*Inode {
	var missing []*Inode
	for it := range c.Items() {
		if it.Kind == File && it.Inode.Size > 0 && it.Inode.Off == NoBody {
			missing = append(missing, it.Inode)
		}
	}
	slices.SortFunc(missing, byOrdinal)
	return missing
}

// sameInode reports whether a name can stay as the base has it.
func sameInode(b, f spot, content ContentFunc) (bool, error) {
	switch {
	case b.number == 0:
		return false, nil
	case b == f:
		return true, nil
	case !sameHeader(b, f):
		return false, nil
	case f.get().bytes() == 0:
		return true, nil
	}
	bs, err := b.hash(content)
	if err != nil {
		return false, err
	}
	fs, err := f.hash(content)
	return err == nil && bs == fs, err
}

// sameHeader compares all but content. User and group names do not count, as
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#file-attributes says.
func sameHeader(b, f spot) bool {
	if b == f {
		return true
	}
	x, y := b.get(), f.get()
	return x.kind == y.kind && b.attrs.at(x.attr).Equal(f.attrs.at(y.attr)) && x.sec == y.sec && x.nsec == y.nsec &&
		x.bytes() == y.bytes() && b.target(x) == f.target(y)
}

// hash returns the hash of a file's content.
func (s spot) hash(content ContentFunc) (Sum, error) {
	n := s.get()
	if sum := s.sum(n); sum != nil {
		return *sum, nil
	}
	if sum, ok := s.kept[s.number]; ok {
		return sum, nil
	}
	sum, err := content(s.inode(s.number))
	if err == nil && n.isLinked() {
		// Other names will ask again.
		s.kept[s.number] = sum
	}
	return sum, err
}
