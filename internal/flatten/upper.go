package flatten

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// upper builds the tree of one layer alone, like the empty upper directory into
// which an overlay engine unpacks. It lies in the store of the tree below it.
type upper struct {
	*store
	layer int32
	root  number
	lower *Tree
	// whiteouts hide single names of the lower layers, by directory.
	whiteouts map[number][]text
	// finders are of directories too large to be kept in order.
	finders map[number]*finder
	// metadata holds the AUFS link store, to which hardlinks may point.
	metadata map[string]number
	// rebound maps inodes that t shares with other trees to what a hardlink made of
	// them.
	rebound map[number]number
	report  *report

	// The directory of the entry before, since neighbours share it.
	lastPath string
	last     number
}

func newUpper(layer int32, lower *Tree, rebound map[number]number, r *report) *upper {
	return &upper{
		store: lower.store, layer: layer, lower: lower, report: r, root: lower.newDir(), rebound: rebound,
		whiteouts: map[number][]text{}, finders: map[number]*finder{}, metadata: map[string]number{},
	}
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
		u.node(d).flags |= opaqueDir
		return nil
	case Metadata:
		return u.addMetadata(e)
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
	n, err := u.file(e)
	if err != nil {
		return err
	}
	return u.put(e.Path, n)
}

// file makes the node of an entry that is no directory.
func (u *upper) file(e Entry) (number, error) {
	n := node{kind: e.Kind}
	n.describe(u.attrs.number(e.Attr), e.Sec, e.Nsec, u.layer, e.Ordinal)
	switch e.Kind {
	case Symlink:
		at, err := u.symlink(e)
		if err != nil {
			return 0, err
		}
		n.at = at
	case File, Metadata:
		n.kind, n.size, n.at = File, e.Size, e.Off
		if e.Sum != nil {
			n.at = NoBody - 1 - int64(u.sums.add(*e.Sum))
		}
	}
	return number(u.nodes.add(n)), nil
}

// longCost is about what a target takes that is not held.
const longCost = 64

// symlink keeps the target of a symlink, or how to get it.
func (u *upper) symlink(e Entry) (int64, error) {
	if e.LinkAgain == nil {
		at, err := u.text(e.Link)
		return int64(at), err
	}
	u.long = append(u.long, e.LinkAgain)
	return -int64(len(u.long)), u.report.hold(longCost)
}

// text keeps a string within the bounds.
func (u *upper) text(s string) (text, error) {
	if err := u.report.hold(len(s)); err != nil {
		return 0, err
	}
	return u.texts.add(s)
}

// metadataCost is about what a name of the AUFS link store takes beside its bytes.
const metadataCost = 48

func (u *upper) addMetadata(e Entry) error {
	n, err := u.file(e)
	if err != nil {
		return err
	}
	u.metadata[e.Path] = n
	return errors.Join(u.report.count(), u.report.hold(len(e.Path)+metadataCost))
}

func (u *upper) whiteout(e Entry) error {
	d, name, err := u.parent(e.Path, false)
	if err != nil {
		return err
	}
	mark, err := u.text(name)
	u.whiteouts[d] = append(u.whiteouts[d], mark)
	return errors.Join(err, u.report.count())
}

// mkdir adds a directory or replaces the attributes of one; a directory entry
// never replaces what lies below it.
func (u *upper) mkdir(e Entry) error {
	d := u.root
	if e.Path != "" {
		parent, name, err := u.parent(e.Path, true)
		if err != nil {
			return err
		}
		if d = u.find(parent, name); !u.isDir(d) {
			d = u.newDir()
			if err := u.set(parent, name, d); err != nil {
				return err
			}
		} else if u.node(d).explicit() {
			u.report.duplicate()
		}
	}
	u.node(d).describe(u.attrs.number(e.Attr), e.Sec, e.Nsec, u.layer, e.Ordinal)
	return nil
}

func (n *node) describe(attr uint32, sec int64, nsec int32, layer, ordinal int32) {
	n.attr, n.sec, n.nsec, n.layer, n.ordinal = attr, sec, nsec, int16(layer), ordinal
}

func (u *upper) put(p string, n number) error {
	if p == "" {
		return fmt.Errorf("the root is a %s", u.node(n).kind)
	}
	parent, name, err := u.parent(p, true)
	if err != nil {
		return err
	}
	return u.set(parent, name, n)
}

// set binds a name, replacing what the layer had there before: the last of
// several entries for a path wins in every engine.
func (u *upper) set(parent number, name string, n number) error {
	old, err := u.bind(parent, name, n)
	if err != nil {
		return err
	}
	if old != 0 {
		u.last = 0
		if o := u.node(old); o.kind != Dir || o.explicit() {
			u.report.duplicate()
		}
	}
	return u.report.count()
}

// parent returns the directory in which a path lies, making those that are
// missing, and the last component of the path.
func (u *upper) parent(p string, real bool) (number, string, error) {
	dir, name := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if u.last != 0 && u.lastPath == dir && (!real || u.node(u.last).flags&realDir != 0) {
		return u.last, name, nil
	}
	d, err := u.directory(dir, real)
	if err != nil {
		return 0, "", err
	}
	u.lastPath, u.last = dir, d
	return d, name, nil
}

// directory returns the directory at a path of this layer, following symlinks of
// this layer alone and making what is missing. With real, an entry will lie in it.
func (u *upper) directory(p string, real bool) (number, error) {
	w := walker{store: u.store, root: u.root, find: u.find, create: func(d number, name string) (number, error) {
		c := u.newDir()
		_, err := u.bind(d, name, c)
		return c, errors.Join(err, u.report.count())
	}}
	if real {
		w.visit = func(d number, _ string) { u.node(d).flags |= realDir }
	}
	d, err := w.walk(p)
	if err != nil {
		return 0, err
	}
	n := u.node(d)
	if n.kind != Dir {
		return 0, fmt.Errorf("%q is a %s in the same layer, not a directory", p, n.kind)
	}
	if real {
		n.flags |= realDir
	}
	if w.hops > 0 {
		u.report.warn(u.layer, p, "path goes through a symlink of the same layer: engines disagree")
	}
	return d, nil
}

// lookup returns the inode of this layer at a path, following symlinks in its
// parents, or 0.
func (u *upper) lookup(p string) (number, error) {
	dir, name := path.Split(p)
	w := walker{store: u.store, root: u.root, find: u.find}
	d, err := w.walk(dir)
	if err != nil || d == 0 || name == "" {
		return d, err
	}
	return u.find(d, name), nil
}

// isEntry reports whether a name of a layer's tree exists for more than a marker.
func (s *store) isEntry(i number) bool {
	if i == 0 {
		return false
	}
	n := s.node(i)
	return n.kind != Dir || n.explicit() || n.flags&realDir != 0
}
