package flatten

import (
	"maps"
	"path"
	"slices"
)

// merge lays the tree of a layer over the tree of the layers below, as an
// overlay mount would show it.
func (t *Tree) merge(u *upper) {
	m := merger{t: t, layer: u.layer, report: u.report}
	if u.root.children.marks.opaque && len(t.root.children.names) > 0 {
		m.report.warn(u.layer, "", "opaque whiteout of the root: overlay engines ignore it")
	}
	t.root = m.over(t.root, u.root, "")
	if len(u.rebound) > 0 {
		t.root = t.rebind(t.root, u.rebound)
	}
}

type merger struct {
	t      *Tree
	layer  int32
	report *report
}

// over lays the directory up over the lower directory.
func (m *merger) over(lower, up *Inode, p string) *Inode {
	d := m.t.own(lower)
	marks := up.children.marks
	switch {
	case up.Explicit():
		d.describe(up.Attr, up.Sec, up.Nsec, up.Layer, up.Ordinal)
	case p != "" && !lower.Attr.Equal(impliedAttr):
		m.report.warn(m.layer, p, "directory without an entry: its attributes were taken from the layers below, some engines reset them")
	}
	if marks.opaque {
		m.report.hide(len(d.children.names))
		clear(d.children.names)
	}
	m.apply(d, up, p)
	return d
}

// fresh makes of up, in place, a directory with nothing below it.
func (m *merger) fresh(up *Inode) *Inode {
	for name, c := range up.children.names {
		switch {
		case c.Kind != Dir:
		case c.isEntry():
			m.fresh(c)
		default:
			delete(up.children.names, name)
		}
	}
	up.children.owner, up.children.marks = m.t.gen, nil
	return up
}

// apply removes what the markers of up name from d, and adds the children of up.
func (m *merger) apply(d, up *Inode, p string) {
	for _, name := range slices.Sorted(maps.Keys(up.children.marks.whiteouts)) {
		if up.children.names[name].isEntry() {
			m.report.warn(m.layer, path.Join(p, name), "whiteout and entry of one name in one layer: overlay engines show something else")
		}
		if _, ok := d.children.names[name]; ok {
			m.report.hide(1)
			delete(d.children.names, name)
		}
	}
	m.children(d, up, p)
}

// isEntry reports whether a name of a layer's tree exists for more than a marker.
func (n *Inode) isEntry() bool {
	return n != nil && (n.Kind != Dir || n.Explicit() || n.children.marks.real)
}

// children adds the children of up, in order: of many warnings only some are kept.
func (m *merger) children(d, up *Inode, p string) {
	for _, name := range up.sorted() {
		c := up.children.names[name]
		lower := d.children.names[name]
		full := name
		if p != "" {
			full = p + "/" + name
		}
		if lower != nil {
			m.report.hide(1)
		}
		switch {
		case c.Kind != Dir:
			d.children.names[name] = c
		case lower != nil && lower.Kind == Dir:
			m.report.hide(-1)
			d.children.names[name] = m.over(lower, c, full)
		case lower == nil && !c.isEntry():
			// A marker below what does not exist removes nothing and makes nothing.
		default:
			if lower != nil && !c.Explicit() {
				m.report.warn(m.layer, full, "entries or markers below a %s of a lower layer: it becomes a directory of its own, as overlay engines show it", lower.Kind)
			}
			d.children.names[name] = m.fresh(c)
		}
	}
}

// rebind replaces inodes under every name they have.
func (t *Tree) rebind(dir *Inode, to map[*Inode]*Inode) *Inode {
	for name, c := range dir.children.names {
		n := to[c]
		if c.Kind == Dir {
			n = t.rebind(c, to)
		}
		if n != nil && n != c {
			dir = t.own(dir)
			dir.children.names[name] = n
		}
	}
	return dir
}
