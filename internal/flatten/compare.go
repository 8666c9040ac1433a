package flatten

import (
	"cmp"
	"fmt"
	"iter"
	"strings"
)

// Field is a property of a path in which two filesystems can differ.
type Field string

// The fields, in the order in which they are told.
const (
	FieldType      Field = "type"
	FieldMode      Field = "mode"
	FieldUID       Field = "uid"
	FieldGID       Field = "gid"
	FieldSize      Field = "size"
	FieldContent   Field = "content"
	FieldMtime     Field = "mtime"
	FieldLink      Field = "link"
	FieldDevice    Field = "device"
	FieldXattrs    Field = "xattrs"
	FieldHardlinks Field = "hardlinks"
)

// Fields returns all fields in their order.
func Fields() []Field {
	return []Field{
		FieldType, FieldMode, FieldUID, FieldGID, FieldSize, FieldContent, FieldMtime,
		FieldLink, FieldDevice, FieldXattrs, FieldHardlinks,
	}
}

// Detail is one field with both values as text.
type Detail struct {
	Field Field
	A, B  string
}

// Change is a path that differs between two filesystems, A and B.
type Change struct {
	// Path is canonical; the root is "".
	Path string
	// A and B are the inodes; nil where the path is not there.
	A, B *Inode
	// Details are the fields that differ where both have the path.
	Details []Detail
}

// CompareOptions tells how filesystems are compared.
type CompareOptions struct {
	// Ignore holds fields that do not count.
	Ignore map[Field]bool
	// IgnorePath, where set, tells paths that do not count; what is below them
	// does.
	IgnorePath func(path string) bool
	// ContentA and ContentB hash files whose hash is not known from reading.
	ContentA, ContentB ContentFunc
}

// Compare yields the paths in which two filesystems differ: parents first,
// siblings in byte order. An error ends it.
func Compare(a, b *Tree, o CompareOptions) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		c := &comparer{o: o, a: a.linkCounts(), b: b.linkCounts(), yield: yield}
		if c.both("", rootOf(a), rootOf(b)) && c.dirs("", rootOf(a), rootOf(b)) {
			if err := cmp.Or(a.err, b.err); err != nil {
				yield(Change{}, err)
			}
		}
	}
}

type comparer struct {
	o CompareOptions
	// a and b count the names of inodes that have several.
	a, b column[int32]
	// pairs and back hold which inode the other tree has under the first common
	// name of one.
	pairs, back column[number]
	yield       func(Change, error) bool
}

// dirs compares what is in two directories, of which one may be none.
func (c *comparer) dirs(prefix string, a, b spot) bool {
	for p := range pairs(a, b) {
		full, ok := prefix+p.name, true
		if p.a.number == 0 || p.b.number == 0 {
			ok = c.ignored(full) || c.yield(change(full, p.a, p.b), nil)
		} else {
			ok = c.both(full, p.a, p.b)
		}
		if ok && (p.a.dir() || p.b.dir()) {
			ok = c.dirs(full+"/", p.a, p.b)
		}
		if !ok {
			return false
		}
	}
	return true
}

func change(p string, a, b spot) Change {
	return Change{Path: p, A: a.inode(a.number), B: b.inode(b.number)}
}

func (c *comparer) ignored(p string) bool { return c.o.IgnorePath != nil && c.o.IgnorePath(p) }

// both compares the inodes of a name that both trees have.
func (c *comparer) both(p string, a, b spot) bool {
	if c.ignored(p) {
		return true
	}
	var details []Detail
	if !sameHeader(a, b) {
		details = c.headers(a.inode(a.number), b.inode(b.number))
	}
	if x, y := a.get(), b.get(); x.kind == y.kind {
		if !c.o.Ignore[FieldContent] && x.bytes() == y.bytes() && x.bytes() > 0 && a != b {
			d, err := c.content(a, b)
			if err != nil {
				c.yield(change(p, a, b), fmt.Errorf("comparing %q: %w", p, err))
				return false
			}
			details = append(details, d...)
		}
		details = append(details, c.groups(a, b)...)
	}
	if len(details) == 0 {
		return true
	}
	ch := change(p, a, b)
	ch.Details = details
	return c.yield(ch, nil)
}

// headers compares what the entries of two inodes say.
func (c *comparer) headers(a, b *Inode) []Detail {
	var details []Detail
	add := func(f Field, x, y string) {
		if x != y && !c.o.Ignore[f] {
			details = append(details, Detail{f, x, y})
		}
	}
	add(FieldType, a.Kind.String(), b.Kind.String())
	if a.Kind != Symlink || b.Kind != Symlink {
		// A symlink's permissions mean nothing, and no engine can set them.
		add(FieldMode, fmt.Sprintf("%04o", a.Attr.Mode), fmt.Sprintf("%04o", b.Attr.Mode))
	}
	add(FieldUID, fmt.Sprint(a.Attr.UID), fmt.Sprint(b.Attr.UID))
	add(FieldGID, fmt.Sprint(a.Attr.GID), fmt.Sprint(b.Attr.GID))
	add(FieldMtime, mtime(a), mtime(b))
	if a.Kind == b.Kind {
		add(FieldSize, fmt.Sprint(a.Size), fmt.Sprint(b.Size))
		add(FieldLink, a.Link, b.Link)
		add(FieldDevice, device(a), device(b))
	}
	add(FieldXattrs, records(a), records(b))
	return details
}

func mtime(n *Inode) string { return fmt.Sprintf("%d.%09d", n.Sec, n.Nsec) }

func device(n *Inode) string {
	if n.Kind != CharDevice && n.Kind != BlockDevice {
		return ""
	}
	return fmt.Sprintf("%d:%d", n.Attr.DevMajor, n.Attr.DevMinor)
}

func records(n *Inode) string {
	var parts []string
	for _, r := range n.Attr.Records {
		key, ok := isXattr(r.Key)
		if !ok {
			key = "PAX " + r.Key
		}
		parts = append(parts, fmt.Sprintf("%s=%q", key, r.Value))
	}
	return strings.Join(parts, " ")
}

func (c *comparer) content(a, b spot) ([]Detail, error) {
	x, err := a.hash(c.o.ContentA)
	if err != nil {
		return nil, err
	}
	y, err := b.hash(c.o.ContentB)
	if err != nil || x == y {
		return nil, err
	}
	return []Detail{{FieldContent, fmt.Sprintf("sha256:%x", x), fmt.Sprintf("sha256:%x", y)}}, nil
}

// groups compares link groups: the same names must share an inode in both trees.
func (c *comparer) groups(a, b spot) []Detail {
	if a.dir() || c.o.Ignore[FieldHardlinks] || !a.get().isLinked() && !b.get().isLinked() {
		return nil
	}
	pair, back := c.pairs.at(a.number), c.back.at(b.number)
	*pair, *back = cmp.Or(*pair, b.number), cmp.Or(*back, a.number)
	na, nb := max(c.a.get(a.number), 1), max(c.b.get(b.number), 1)
	if na == nb && *pair == b.number && *back == a.number {
		return nil
	}
	d := Detail{FieldHardlinks, nameCount(na), nameCount(nb)}
	if na == nb {
		d.B += ", others"
	}
	return []Detail{d}
}

func nameCount(n int32) string {
	if n == 1 {
		return "1 name"
	}
	return fmt.Sprintf("%d names", n)
}
