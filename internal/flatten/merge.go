package flatten

import (
	"path"
	"slices"
	"strings"
)

// merge lays the tree of a layer over the tree of the layers below, as an
// overlay mount would show it.
func (t *Tree) merge(u *upper) {
	m := merger{Tree: t, u: u, report: u.report}
	if t.node(u.root).flags&opaqueDir != 0 && len(t.children(t.root)) > 0 {
		m.report.warn(u.layer, "", "opaque whiteout of the root: overlay engines ignore it")
	}
	t.root = m.over(t.root, u.root, "")
}

type merger struct {
	*Tree
	u      *upper
	report *report
}

// over lays the directory up over the lower directory, and lets go of it.
func (m *merger) over(lower, up number, p string) number {
	d := m.own(lower)
	n, x := m.node(d), m.node(up)
	switch {
	case x.explicit():
		n.describe(x.attr, x.sec, x.nsec, int32(x.layer), x.ordinal)
	case p != "" && !m.attrs.at(n.attr).Equal(impliedAttr):
		m.report.warn(m.u.layer, p, "directory without an entry: its attributes were taken from the layers below, some engines reset them")
	}
	list := m.children(d)
	if x.flags&opaqueDir != 0 {
		m.report.hide(len(list))
		list = nil
	}
	m.u.sort(up)
	list = m.hide(list, up, p)
	m.setChildren(d, m.lay(list, up, p))
	m.setChildren(up, nil)
	return d
}

// fresh makes of up, in place, a directory with nothing below it.
func (m *merger) fresh(up number) number {
	m.u.sort(up)
	m.node(up).flags &^= realDir | opaqueDir
	m.setChildren(up, slices.DeleteFunc(m.children(up), func(c child) bool {
		if !m.isDir(c.node) {
			return false
		}
		if !m.isEntry(c.node) {
			return true
		}
		m.fresh(c.node)
		return false
	}))
	return up
}

// hide returns a list without what the markers of up name.
func (m *merger) hide(list []child, up number, p string) []child {
	marks := m.u.whiteouts[up]
	if len(marks) == 0 {
		return list
	}
	slices.SortFunc(marks, func(a, b text) int { return strings.Compare(m.texts.at(a), m.texts.at(b)) })
	left, i, last := list[:0], 0, ""
	for _, mark := range marks {
		name := m.texts.at(mark)
		if name == last {
			continue
		}
		last = name
		if m.isEntry(m.u.find(up, name)) {
			m.report.warn(m.u.layer, path.Join(p, name), "whiteout and entry of one name in one layer: overlay engines show something else")
		}
		at, found := m.seek(list, i, name)
		left = append(left, list[i:at]...)
		if i = at; found {
			m.report.hide(1)
			i++
		}
	}
	return append(left, list[i:]...)
}

// lay returns a list with the children of up, which are added in order: of many
// warnings only some are kept.
func (m *merger) lay(list []child, up number, p string) []child {
	var added []child
	if len(list) == 0 {
		added = make([]child, 0, len(m.children(up)))
	}
	i := 0
	for _, c := range m.children(up) {
		lower, found := number(0), false
		if i, found = m.seek(list, i, m.name(c)); found {
			lower = list[i].node
			m.report.hide(1)
		}
		n := m.onto(lower, c, p)
		switch {
		case found:
			list[i].node = n
		case n != 0:
			added = append(added, child{c.name, n})
		}
	}
	return m.insert(list, added)
}

// onto returns what a child of the layer becomes over the lower node of its name;
// 0 where it makes nothing.
func (m *merger) onto(lower number, c child, p string) number {
	up := m.node(c.node)
	if up.kind != Dir {
		return c.node
	}
	if p != "" {
		p += "/"
	}
	p += m.name(c)
	switch {
	case m.isDir(lower):
		m.report.hide(-1)
		return m.over(lower, c.node, p)
	case lower == 0 && !m.isEntry(c.node):
		// A marker below what does not exist removes nothing and makes nothing.
		return 0
	case lower != 0 && !up.explicit():
		m.report.warn(m.u.layer, p, "entries or markers below a %s of a lower layer: it becomes a directory of its own, as overlay engines show it", m.node(lower).kind)
	}
	return m.fresh(c.node)
}

// insert returns a list with children whose names it does not have, both in order.
func (s *store) insert(list, added []child) []child {
	switch {
	case len(added) == 0:
		return list
	case len(list) == 0:
		return added
	}
	all, i := make([]child, 0, len(list)+len(added)), 0
	for _, c := range added {
		at, _ := s.seek(list, i, s.name(c))
		all = append(append(all, list[i:at]...), c)
		i = at
	}
	return append(all, list[i:]...)
}

// settle gives inodes that hardlinks made anew to every name that they have.
func (t *Tree) settle(rebound map[number]number) {
	if len(rebound) > 0 {
		t.root = t.rebind(t.root, rebound)
		clear(rebound)
	}
}

// rebind replaces inodes under every name they have.
func (t *Tree) rebind(dir number, to map[number]number) number {
	list := t.children(dir)
	for i, c := range list {
		n := c.node
		if t.isDir(n) {
			n = t.rebind(n, to)
		} else if r, ok := to[n]; ok {
			n = r
		}
		if n != c.node {
			dir = t.own(dir)
			t.children(dir)[i].node = n
		}
	}
	return dir
}
