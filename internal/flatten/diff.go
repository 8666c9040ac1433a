package flatten

import (
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
}

// Changeset is what turns one filesystem into another: a layer to be written.
//
// It holds that no path is both marked and present; that nothing lies below a
// marked path or a non-directory; that a whiteout stands only for what the base
// has, in a directory that both have; that every parent is there with its final
// attributes; and that link groups are whole: the first name carries the
// content, the others follow.
type Changeset struct {
	base, final *Inode
	// same holds inodes that equal their counterpart in the base.
	same map[*Inode]bool
	// whole holds inodes whose link group differs from the base's.
	whole map[*Inode]bool
	// dirty holds directories with anything to write in or below them.
	dirty map[*Inode]bool
}

// Diff returns the changeset from base to final; a nil base is an empty
// filesystem. It fails only if content does.
func Diff(base, final *Tree, content ContentFunc) (*Changeset, error) {
	c := &Changeset{
		base: rootOf(base), final: final.root,
		same: map[*Inode]bool{}, whole: map[*Inode]bool{}, dirty: map[*Inode]bool{},
	}
	if base == nil {
		return c, nil
	}
	g := grouper{c: c, content: content, groups: map[*Inode]*group{}, claims: map[*Inode]*Inode{}}
	if err := g.walk(c.final, c.base); err != nil {
		return nil, err
	}
	g.settle()
	c.mark(c.final, c.base)
	return c, nil
}

// group is what the base has under the names of one inode of the final tree.
type group struct {
	base  *Inode
	split bool
}

// grouper compares inodes name by name and finds the link groups that the base
// does not have as they are.
type grouper struct {
	c       *Changeset
	content ContentFunc
	groups  map[*Inode]*group
	// claims holds which inode of the final tree the names of a linked inode of
	// the base belong to.
	claims map[*Inode]*Inode
}

func (g *grouper) walk(dir, base *Inode) error {
	for _, name := range dir.sorted() {
		f, b := dir.children.names[name], base.child(name)
		if f.Kind == Dir {
			if err := g.walk(f, b); err != nil {
				return err
			}
			continue
		}
		same := b != nil
		if same {
			var err error
			if same, err = sameInode(b, f, g.content); err != nil {
				return err
			}
		}
		g.join(f, b, same)
	}
	return nil
}

func (g *grouper) join(f, b *Inode, same bool) {
	if same && b.linked {
		if owner := g.claims[b]; owner == nil {
			g.claims[b] = f
		} else if owner != f {
			g.c.whole[f] = true
		}
	}
	if !f.linked {
		if same && f != b {
			g.c.same[f] = true
		}
		return
	}
	if gr := g.groups[f]; gr == nil {
		g.groups[f] = &group{base: b, split: !same}
	} else if !same || gr.base != b {
		gr.split = true
	}
}

// settle decides for every link group whether the base has it: all names on one
// inode that equals the final one. More names in the base do no harm.
func (g *grouper) settle() {
	for f, gr := range g.groups {
		if gr.split {
			g.c.whole[f] = true
		} else {
			g.c.same[f] = true
		}
	}
}

// mark finds the directories with anything to write in or below them.
func (c *Changeset) mark(dir, base *Inode) bool {
	dirty := !sameHeader(base, dir)
	for name := range base.children.names {
		dirty = dirty || dir.children.names[name] == nil
	}
	for name, f := range dir.children.names {
		b := base.child(name)
		if f.Kind == Dir && b != nil && b.Kind == Dir {
			dirty = c.mark(f, b) || dirty
		} else {
			dirty = dirty || c.changed(f, b)
		}
	}
	if dirty {
		c.dirty[dir] = true
	}
	return dirty
}

// changed reports whether a name that is no directory in both trees is written.
func (c *Changeset) changed(f, b *Inode) bool {
	return b == nil || c.whole[f] || f != b && !c.same[f]
}

// Items yields the headers of the layer: a directory, then the whiteouts in it,
// then its children, siblings in byte order.
func (c *Changeset) Items() iter.Seq[Item] {
	return func(yield func(Item) bool) { c.walk(nil, yield) }
}

// walk yields the items; of directories that only has, those it names alone.
func (c *Changeset) walk(only map[*Inode][]string, yield func(Item) bool) {
	w := itemWalk{c: c, only: only, first: map[*Inode]string{}, yield: yield}
	if c.final.Explicit() && (c.base == nil || !sameHeader(c.base, c.final)) &&
		!yield(Item{Kind: Dir, Inode: c.final}) {
		return
	}
	w.dir(c.final, c.base, "")
}

type itemWalk struct {
	c     *Changeset
	only  map[*Inode][]string
	first map[*Inode]string
	yield func(Item) bool
}

// dir yields what is in a directory; base is nil where there was none.
func (w *itemWalk) dir(dir, base *Inode, prefix string) bool {
	if base != nil {
		if !w.c.dirty[dir] {
			return true
		}
		for _, name := range w.names(dir, base) {
			if dir.children.names[name] == nil && !w.yield(Item{Path: prefix + name, Kind: Whiteout}) {
				return false
			}
		}
	}
	for _, name := range w.names(dir, dir) {
		if f := dir.children.names[name]; f != nil && !w.child(f, base.child(name), prefix+name) {
			return false
		}
	}
	return true
}

// names returns the names in dir, or in what the base has there, that may be written.
func (w *itemWalk) names(dir, from *Inode) []string {
	if names, ok := w.only[dir]; ok {
		return names
	}
	return from.sorted()
}

func (w *itemWalk) child(f, b *Inode, p string) bool {
	if f.Kind != Dir {
		return !w.c.changed(f, b) || w.yield(w.item(f, p))
	}
	if b != nil && b.Kind != Dir {
		b = nil
	}
	if b != nil && !w.c.dirty[f] {
		return true
	}
	return w.yield(Item{Path: p, Kind: Dir, Inode: f}) && w.dir(f, b, p+"/")
}

func (w *itemWalk) item(f *Inode, p string) Item {
	if f.linked {
		if first, ok := w.first[f]; ok {
			return Item{Path: p, Kind: Hardlink, Inode: f, Link: first}
		}
		w.first[f] = p
	}
	return Item{Path: p, Kind: f.Kind, Inode: f}
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
func sameInode(b, f *Inode, content ContentFunc) (bool, error) {
	if b == f {
		return true, nil
	}
	if !sameHeader(b, f) {
		return false, nil
	}
	if f.Kind != File || f.Size == 0 {
		return true, nil
	}
	bs, err := sumOf(b, content)
	if err != nil {
		return false, err
	}
	fs, err := sumOf(f, content)
	return err == nil && bs == fs, err
}

// sameHeader compares all but content. User and group names do not count, as
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#file-attributes says.
func sameHeader(b, f *Inode) bool {
	return b.Kind == f.Kind && b.Attr.Equal(f.Attr) && b.Sec == f.Sec && b.Nsec == f.Nsec &&
		b.Size == f.Size && b.Link == f.Link
}

func sumOf(n *Inode, content ContentFunc) (Sum, error) {
	if n.Sum != nil {
		return *n.Sum, nil
	}
	sum, err := content(n)
	if err == nil && n.linked {
		// Other names will ask again.
		n.Sum = &sum
	}
	return sum, err
}
