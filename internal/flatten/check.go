package flatten

import (
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
)

// CheckLayer proves that the entries of a written layer hold what [Changeset]
// promises, above the filesystem of the kept layers (nil for none): canonical
// order, whiteouts only for what the base has, all parents explicit, links after
// their targets with the same header. The first violation is returned.
func CheckLayer(base *Tree, entries iter.Seq2[Entry, error]) error {
	targets, err := linkTargets(entries)
	if err != nil {
		return err
	}
	c := &layerCheck{base: rootOf(base), targets: targets}
	for e, err := range entries {
		if err == nil {
			err = c.entry(e)
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", e.Path, err)
		}
	}
	return nil
}

// targetTree holds what the hardlinks of a layer point to, as files; at is the kind
// that it has, once its entry was read.
type targetTree struct{ *upper }

// named returns a target, nil for a path that is none.
func (t targetTree) named(p string) *node {
	if len(t.children(t.root)) == 0 {
		return nil
	}
	n, err := t.lookup(p)
	if err != nil || n == 0 || t.isDir(n) {
		return nil
	}
	return t.node(n)
}

func linkTargets(entries iter.Seq2[Entry, error]) (targetTree, error) {
	t := targetTree{newUpper(0, NewTree(), nil, &report{})}
	for e, err := range entries {
		if err != nil {
			return t, err
		}
		if e.Kind != Hardlink || t.named(e.Link) != nil {
			continue
		}
		if err := t.put(e.Link, number(t.nodes.add(node{layer: -1}))); err != nil {
			return t, fmt.Errorf("entry %q: %w", e.Path, err)
		}
	}
	return t, nil
}

// openDir is a directory whose entries are being read.
type openDir struct {
	// prefix is its path with a trailing slash, "" for the root.
	prefix string
	// base is what the base has there, of the number 0 if nothing or no directory.
	base spot
	// last is the name of the child before, marked are the whiteouts, in order.
	last   string
	marked []string
}

type layerCheck struct {
	base    spot
	targets targetTree
	stack   []openDir
}

func (c *layerCheck) entry(e Entry) error {
	if c.stack == nil {
		c.stack = []openDir{{base: c.base}}
		if e.Path == "" && e.Kind == Dir {
			return nil
		}
	}
	dir, name := path.Split(e.Path)
	for len(c.stack) > 1 && !strings.HasPrefix(e.Path, c.stack[len(c.stack)-1].prefix) {
		c.stack = c.stack[:len(c.stack)-1]
	}
	d := &c.stack[len(c.stack)-1]
	if d.prefix != dir || name == "" {
		return errors.New("its directory has no entry before it")
	}
	switch e.Kind {
	case Whiteout:
		return d.mark(name)
	case Opaque, Metadata:
		return fmt.Errorf("%s in a written layer", e.Kind)
	}
	if err := d.child(name); err != nil {
		return err
	}
	if e.Kind == Dir {
		lower := d.base.to(d.base.child(d.base.number, name))
		if !lower.dir() {
			lower.number = 0
		}
		c.stack = append(c.stack, openDir{prefix: e.Path + "/", base: lower})
	}
	return c.link(e)
}

func (d *openDir) mark(name string) error {
	switch {
	case d.last != "":
		return errors.New("whiteout after a child of its directory")
	case len(d.marked) > 0 && name <= d.marked[len(d.marked)-1]:
		return errors.New("whiteout out of order")
	case d.base.child(d.base.number, name) == 0:
		return errors.New("whiteout of what the base does not have")
	}
	// A part of the path would keep all of it.
	d.marked = append(d.marked, strings.Clone(name))
	return nil
}

func (d *openDir) child(name string) error {
	if name <= d.last {
		return errors.New("entry out of order")
	}
	d.last = name
	if _, ok := slices.BinarySearch(d.marked, name); ok {
		return errors.New("entry beside its whiteout")
	}
	return nil
}

// link checks a hardlink against its target, and notes the target of others.
func (c *layerCheck) link(e Entry) error {
	t := c.targets
	if n := t.named(e.Path); n != nil {
		n.describe(t.attrs.number(e.Attr), e.Sec, e.Nsec, 0, e.Ordinal)
		n.at = int64(e.Kind)
	}
	if e.Kind != Hardlink {
		return nil
	}
	n := t.named(e.Link)
	if n == nil || !n.explicit() {
		return fmt.Errorf("hardlink before its target %q", e.Link)
	}
	switch kind := Kind(n.at); {
	case kind == Hardlink || kind == Dir:
		return fmt.Errorf("hardlink to the %s %q", kind, e.Link)
	case !t.attrs.at(n.attr).sameHeader(e.Attr) || n.sec != e.Sec || n.nsec != e.Nsec:
		return fmt.Errorf("hardlink header differs from that of %q", e.Link)
	}
	return nil
}

// sameHeader compares attributes without the device numbers, which a hardlink's
// header does not have.
func (a *Attr) sameHeader(b *Attr) bool {
	x, y := *a, *b
	x.DevMajor, x.DevMinor, y.DevMajor, y.DevMinor = 0, 0, 0, 0
	return x.Equal(&y)
}
