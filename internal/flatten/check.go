package flatten

import (
	"errors"
	"fmt"
	"iter"
	"path"
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
	c := &layerCheck{base: rootOf(base), targets: targets, seen: map[string]Entry{}}
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

func linkTargets(entries iter.Seq2[Entry, error]) (map[string]bool, error) {
	targets := map[string]bool{}
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		if e.Kind == Hardlink {
			targets[e.Link] = true
		}
	}
	return targets, nil
}

// openDir is a directory whose entries are being read.
type openDir struct {
	// prefix is its path with a trailing slash, "" for the root.
	prefix string
	// base is what the base has there, nil if nothing or no directory.
	base *Inode
	// lastMark and last are the names before, for the order.
	lastMark, last string
	marked         map[string]bool
}

type layerCheck struct {
	base    *Inode
	targets map[string]bool
	// seen holds the targets of hardlinks that were read.
	seen  map[string]Entry
	stack []openDir
}

func (c *layerCheck) entry(e Entry) error {
	if c.stack == nil {
		c.stack = []openDir{{base: c.base, marked: map[string]bool{}}}
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
		lower := d.base.child(name)
		if !isDir(lower) {
			lower = nil
		}
		c.stack = append(c.stack, openDir{prefix: e.Path + "/", base: lower, marked: map[string]bool{}})
	}
	return c.link(e)
}

func (d *openDir) mark(name string) error {
	switch {
	case d.last != "":
		return errors.New("whiteout after a child of its directory")
	case name <= d.lastMark:
		return errors.New("whiteout out of order")
	case d.base.child(name) == nil:
		return errors.New("whiteout of what the base does not have")
	}
	d.lastMark = name
	d.marked[name] = true
	return nil
}

func (d *openDir) child(name string) error {
	if name <= d.last {
		return errors.New("entry out of order")
	}
	d.last = name
	if d.marked[name] {
		return errors.New("entry beside its whiteout")
	}
	return nil
}

func (c *layerCheck) link(e Entry) error {
	if c.targets[e.Path] {
		c.seen[e.Path] = e
	}
	if e.Kind != Hardlink {
		return nil
	}
	t, ok := c.seen[e.Link]
	switch {
	case !ok:
		return fmt.Errorf("hardlink before its target %q", e.Link)
	case t.Kind == Hardlink || t.Kind == Dir:
		return fmt.Errorf("hardlink to the %s %q", t.Kind, e.Link)
	case !t.Attr.sameHeader(e.Attr) || t.Sec != e.Sec || t.Nsec != e.Nsec:
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
