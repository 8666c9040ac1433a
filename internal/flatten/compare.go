package flatten

import (
	"fmt"
	"iter"
	"maps"
	"slices"
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
		c := &comparer{o: o, a: a.linkCounts(), b: b.linkCounts(), pairs: map[*Inode]*Inode{}, back: map[*Inode]*Inode{}, yield: yield}
		if c.both("", a.root, b.root) {
			c.dirs("", a.root, b.root)
		}
	}
}

type comparer struct {
	o CompareOptions
	// a and b count the names of inodes that have several.
	a, b map[*Inode]int
	// pairs and back hold which inode the other tree has under the first common
	// name of one.
	pairs, back map[*Inode]*Inode
	yield       func(Change, error) bool
}

// dirs compares what is in two directories, of which one may be nil.
func (c *comparer) dirs(prefix string, a, b *Inode) bool {
	for _, name := range unionNames(a, b) {
		p, ca, cb := prefix+name, a.child(name), b.child(name)
		ok := true
		if ca == nil || cb == nil {
			ok = c.ignored(p) || c.yield(Change{Path: p, A: ca, B: cb}, nil)
		} else {
			ok = c.both(p, ca, cb)
		}
		if ok && (isDir(ca) || isDir(cb)) {
			ok = c.dirs(p+"/", ca, cb)
		}
		if !ok {
			return false
		}
	}
	return true
}

func isDir(n *Inode) bool { return n != nil && n.Kind == Dir }

func unionNames(a, b *Inode) []string {
	names := map[string]bool{}
	for _, n := range []*Inode{a, b} {
		if isDir(n) {
			for name := range n.children.names {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (c *comparer) ignored(p string) bool { return c.o.IgnorePath != nil && c.o.IgnorePath(p) }

// both compares the inodes of a name that both trees have.
func (c *comparer) both(p string, a, b *Inode) bool {
	if c.ignored(p) {
		return true
	}
	details := c.headers(a, b)
	if a.Kind == b.Kind {
		if !c.o.Ignore[FieldContent] && a.Kind == File && a.Size == b.Size && a.Size > 0 && a != b {
			d, err := c.content(a, b)
			if err != nil {
				c.yield(Change{Path: p, A: a, B: b}, fmt.Errorf("comparing %q: %w", p, err))
				return false
			}
			details = append(details, d...)
		}
		details = append(details, c.groups(a, b)...)
	}
	return len(details) == 0 || c.yield(Change{Path: p, A: a, B: b, Details: details}, nil)
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

func (c *comparer) content(a, b *Inode) ([]Detail, error) {
	x, err := sumOf(a, c.o.ContentA)
	if err != nil {
		return nil, err
	}
	y, err := sumOf(b, c.o.ContentB)
	if err != nil || x == y {
		return nil, err
	}
	return []Detail{{FieldContent, fmt.Sprintf("sha256:%x", x), fmt.Sprintf("sha256:%x", y)}}, nil
}

// groups compares link groups: the same names must share an inode in both trees.
func (c *comparer) groups(a, b *Inode) []Detail {
	if a.Kind == Dir || c.o.Ignore[FieldHardlinks] || !a.linked && !b.linked {
		return nil
	}
	if c.pairs[a] == nil {
		c.pairs[a] = b
	}
	if c.back[b] == nil {
		c.back[b] = a
	}
	na, nb := max(c.a[a], 1), max(c.b[b], 1)
	if na == nb && c.pairs[a] == b && c.back[b] == a {
		return nil
	}
	d := Detail{FieldHardlinks, nameCount(na), nameCount(nb)}
	if na == nb {
		d.B += ", others"
	}
	return []Detail{d}
}

func nameCount(n int) string {
	if n == 1 {
		return "1 name"
	}
	return fmt.Sprintf("%d names", n)
}
