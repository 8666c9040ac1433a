package flatten

import (
	"errors"
	"fmt"
)

// link binds one more name to the inode that the target names now.
func (u *upper) link(e Entry) error {
	if e.Link == e.Path {
		return errors.New("hardlink to itself")
	}
	n, err := u.linkTarget(e)
	if err != nil {
		return err
	}
	if u.isDir(n) {
		return fmt.Errorf("hardlink to the directory %q", e.Link)
	}
	if n, err = u.relabel(n, e); err != nil {
		return err
	}
	u.node(n).flags |= linked
	return u.put(e.Path, n)
}

// linkTarget finds the inode of a hardlink: in this layer, in its AUFS link store,
// or in the layers below, which the specification discourages and overlay
// engines cannot unpack.
func (u *upper) linkTarget(e Entry) (number, error) {
	n, err := u.lookup(e.Link)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		n = u.metadata[e.Link]
	}
	if u.isEntry(n) {
		return n, nil
	}
	if n = u.lower.lookup(e.Link); n == 0 {
		n = u.lower.resolve(e.Link)
	}
	if n == 0 {
		return 0, fmt.Errorf("hardlink target %q is not in the layer before this entry, nor in a layer below", e.Link)
	}
	u.report.warn(u.layer, e.Path, "hardlink to %q of a lower layer: overlay engines cannot unpack the source", e.Link)
	return n, nil
}

// attrCost is about what attributes take that only a hardlink has, recordCost what
// one of their records does.
const attrCost, recordCost = 128, 32

// relabel gives the inode the attributes of the last header that named it, as
// containerd and moby do, but keeps extended attributes that a bare link header
// does not repeat.
func (u *upper) relabel(i number, e Entry) (number, error) {
	if r, ok := u.rebound[i]; ok {
		i = r
	}
	n := u.node(i)
	have := u.attrs.at(n.attr)
	want := have.withRecords(e.Attr)
	if e.Attr.Mode != have.Mode || e.Attr.UID != have.UID || e.Attr.GID != have.GID {
		c := *want
		c.Mode, c.UID, c.GID = e.Attr.Mode, e.Attr.UID, e.Attr.GID
		want = &c
	}
	if want.Equal(have) && e.Sec == n.sec && e.Nsec == n.nsec {
		return i, nil
	}
	u.report.warn(u.layer, e.Path, "hardlink header differs from that of %q: its attributes were taken for both", e.Link)
	switch {
	case want.Equal(have):
		want = have
	case want.Equal(e.Attr):
		want = e.Attr
	default:
		if err := u.report.hold(attrCost + recordCost*len(want.Records)); err != nil {
			return 0, err
		}
	}
	if i < u.lower.from {
		c := number(u.nodes.add(*n))
		u.rebound[i] = c
		i, n = c, u.node(c)
	}
	n.attr, n.sec, n.nsec = u.attrs.number(want), e.Sec, e.Nsec
	return i, nil
}
