package flatten

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxHops bounds the symlinks followed for one path, as Linux does.
const maxHops = 255

// MaxNames bounds the names that all layers of an image may create, so that a
// hostile image cannot fill the memory.
const MaxNames = 4_000_000

// marks are what a directory of a layer's own tree needs until it is merged.
type marks struct {
	// real is set when an entry, not only a marker, lies in the directory.
	real bool
	// opaque hides the lower layers' children.
	opaque bool
	// whiteouts hide single names of the lower layers.
	whiteouts map[string]bool
}

// upper builds the tree of one layer alone, like the empty upper directory into
// which an overlay engine unpacks.
type upper struct {
	layer int32
	root  *Inode
	lower *Tree
	// metadata holds the AUFS link store, to which hardlinks may point.
	metadata map[string]*Inode
	// rebound maps inodes of lower layers to what a hardlink of this layer made
	// of them.
	rebound map[*Inode]*Inode
	report  *report

	// The directory of the entry before, since neighbours share it.
	lastPath string
	last     *Inode
}

func newUpper(layer int32, lower *Tree, r *report) *upper {
	return &upper{
		layer: layer, lower: lower, report: r, root: newUpperDir(),
		metadata: map[string]*Inode{}, rebound: map[*Inode]*Inode{},
	}
}

func newUpperDir() *Inode {
	d := newDir(-1)
	d.children.marks = &marks{}
	return d
}

func (u *upper) add(e Entry) error {
	switch e.Kind {
	case Whiteout:
		return u.whiteout(e)
	case Opaque:
		d, err := u.directory(e.Path, false)
		if err != nil {
			return err
		}
		d.children.marks.opaque = true
		return nil
	case Metadata:
		u.metadata[e.Path] = u.inode(e)
		return u.report.count()
	case Dir:
		return u.mkdir(e)
	case Hardlink:
		return u.link(e)
	case CharDevice:
		if e.Attr.DevMajor == 0 && e.Attr.DevMinor == 0 {
			u.report.warn(u.layer, e.Path, "character device 0:0: overlay engines take it for a whiteout")
			return u.whiteout(e)
		}
	}
	return u.put(e.Path, u.inode(e))
}

func (u *upper) inode(e Entry) *Inode {
	n := &Inode{
		Attr: e.Attr, Size: e.Size, Sec: e.Sec, Nsec: e.Nsec, Kind: e.Kind,
		Off: e.Off, Sum: e.Sum, Layer: u.layer, Ordinal: e.Ordinal,
	}
	if e.Kind == Symlink {
		n.Link = e.Link
	}
	if e.Kind == Metadata {
		n.Kind = File
	}
	return n
}

func (u *upper) whiteout(e Entry) error {
	d, name, err := u.parent(e.Path, false)
	if err != nil {
		return err
	}
	m := d.children.marks
	if m.whiteouts == nil {
		m.whiteouts = map[string]bool{}
	}
	m.whiteouts[strings.Clone(name)] = true
	return u.report.count()
}

// mkdir adds a directory or replaces the attributes of one; a directory entry
// never replaces what lies below it.
func (u *upper) mkdir(e Entry) error {
	var d *Inode
	if e.Path == "" {
		d = u.root
	} else {
		parent, name, err := u.parent(e.Path, true)
		if err != nil {
			return err
		}
		if d = parent.child(name); d == nil || d.Kind != Dir {
			d = newUpperDir()
			if err := u.set(parent, name, d); err != nil {
				return err
			}
		} else if d.Explicit() {
			u.report.duplicate()
		}
	}
	d.describe(e.Attr, e.Sec, e.Nsec, u.layer, e.Ordinal)
	return nil
}

func (n *Inode) describe(a *Attr, sec int64, nsec int32, layer, ordinal int32) {
	n.Attr, n.Sec, n.Nsec, n.Layer, n.Ordinal = a, sec, nsec, layer, ordinal
}

func (u *upper) put(p string, n *Inode) error {
	if p == "" {
		return fmt.Errorf("the root is a %s", n.Kind)
	}
	parent, name, err := u.parent(p, true)
	if err != nil {
		return err
	}
	return u.set(parent, name, n)
}

// set binds a name, replacing what the layer had there before: the last of
// several entries for a path wins in every engine.
func (u *upper) set(parent *Inode, name string, n *Inode) error {
	if old := parent.children.names[name]; old != nil {
		u.last = nil
		if old.Kind != Dir || old.Explicit() {
			u.report.duplicate()
		}
	}
	parent.children.names[strings.Clone(name)] = n
	return u.report.count()
}

// link binds one more name to the inode that the target names now.
func (u *upper) link(e Entry) error {
	if e.Link == e.Path {
		return errors.New("hardlink to itself")
	}
	n, err := u.target(e)
	if err != nil {
		return err
	}
	if n.Kind == Dir {
		return fmt.Errorf("hardlink to the directory %q", e.Link)
	}
	n = u.relabel(n, e)
	n.linked = true
	return u.put(e.Path, n)
}

// target finds the inode of a hardlink: in this layer, in its AUFS link store,
// or in the layers below, which the specification discourages and overlay
// engines cannot unpack.
func (u *upper) target(e Entry) (*Inode, error) {
	n, err := u.lookup(e.Link)
	if err != nil {
		return nil, err
	}
	if n == nil {
		n = u.metadata[e.Link]
	}
	if n != nil && (n.Kind != Dir || n.Explicit() || n.children.marks.real) {
		return n, nil
	}
	if n = u.lower.Lookup(e.Link); n == nil {
		n = u.lower.resolve(e.Link)
	}
	if n == nil {
		return nil, fmt.Errorf("hardlink target %q is not in the layer before this entry, nor in a layer below", e.Link)
	}
	u.report.warn(u.layer, e.Path, "hardlink to %q of a lower layer: overlay engines cannot unpack the source", e.Link)
	return n, nil
}

// relabel gives the inode the attributes of the last header that named it, as
// containerd and moby do, but keeps extended attributes that a bare link header
// does not repeat.
func (u *upper) relabel(n *Inode, e Entry) *Inode {
	rebound := u.rebound[n]
	if rebound != nil {
		n = rebound
	}
	want := n.Attr.withRecords(e.Attr)
	if e.Attr.Mode != n.Attr.Mode || e.Attr.UID != n.Attr.UID || e.Attr.GID != n.Attr.GID {
		c := *want
		c.Mode, c.UID, c.GID = e.Attr.Mode, e.Attr.UID, e.Attr.GID
		want = &c
	}
	if want.Equal(n.Attr) && e.Sec == n.Sec && e.Nsec == n.Nsec {
		return n
	}
	u.report.warn(u.layer, e.Path, "hardlink header differs from that of %q: its attributes were taken for both", e.Link)
	if n.Layer != u.layer && rebound == nil {
		c := *n
		u.rebound[n], u.rebound[&c] = &c, &c
		n = &c
	}
	n.Attr, n.Sec, n.Nsec = want, e.Sec, e.Nsec
	return n
}

// parent returns the directory in which a path lies, making those that are
// missing, and the last component of the path.
func (u *upper) parent(p string, real bool) (*Inode, string, error) {
	dir, name := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if u.last != nil && u.lastPath == dir && (u.last.children.marks.real || !real) {
		return u.last, name, nil
	}
	d, err := u.directory(dir, real)
	if err != nil {
		return nil, "", err
	}
	u.lastPath, u.last = dir, d
	return d, name, nil
}

// directory returns the directory at a path of this layer, following symlinks of
// this layer alone and making what is missing. With real, an entry will lie in it.
func (u *upper) directory(p string, real bool) (*Inode, error) {
	w := walker{root: u.root, create: func(d *Inode, name string) (*Inode, error) {
		c := newUpperDir()
		d.children.names[strings.Clone(name)] = c
		return c, u.report.count()
	}}
	if real {
		w.visit = func(d *Inode, _ string) { d.children.marks.real = true }
	}
	d, err := w.walk(p)
	if err != nil {
		return nil, err
	}
	if d.Kind != Dir {
		return nil, fmt.Errorf("%q is a %s in the same layer, not a directory", p, d.Kind)
	}
	if real {
		d.children.marks.real = true
	}
	if w.hops > 0 {
		u.report.warn(u.layer, p, "path goes through a symlink of the same layer: engines disagree")
	}
	return d, nil
}

// lookup returns the inode of this layer at a path, following symlinks in its
// parents, or nil.
func (u *upper) lookup(p string) (*Inode, error) {
	dir, name := path.Split(p)
	w := walker{root: u.root}
	d, err := w.walk(dir)
	if err != nil || d == nil {
		return nil, err
	}
	if name == "" {
		return d, nil
	}
	return d.child(name), nil
}
