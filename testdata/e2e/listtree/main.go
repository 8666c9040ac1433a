//go:build linux

// Command listtree prints what a directory tree holds, one line for each path:
// type, mode, owner, size, mtime to the nanosecond, device number, extended
// attributes, symlink target, SHA-256 of the content and hardlink group. Two
// trees are the same if their listings are.
//
// Usage: listtree [-no-root-mtime] DIR
package main

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	noRootMtime := flag.Bool("no-root-mtime", false, "leave out the mtime of DIR itself, which unpackers touch")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: listtree [-no-root-mtime] DIR")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *noRootMtime, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "listtree: error:", err)
		os.Exit(1)
	}
}

// entry is one path below the root; "." is the root itself.
type entry struct {
	path string
	stat unix.Stat_t
}

// inode tells files apart within the tree.
type inode struct{ dev, ino uint64 }

func run(root string, noRootMtime bool, out io.Writer) error {
	entries, err := read(root)
	if err != nil {
		return err
	}
	names := map[inode][]string{}
	for _, e := range entries {
		if e.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{e.stat.Dev, e.stat.Ino}
			names[id] = append(names[id], e.path)
		}
	}
	w := bufio.NewWriter(out)
	for _, e := range entries {
		fields, err := describe(root, e)
		if err != nil {
			return fmt.Errorf("reading %q: %w", e.path, err)
		}
		if e.path != "." || !noRootMtime {
			fields = append(fields, fmt.Sprintf("mtime=%d.%09d", e.stat.Mtim.Sec, e.stat.Mtim.Nsec))
		}
		if group := names[inode{e.stat.Dev, e.stat.Ino}]; len(group) > 1 {
			fields = append(fields, fmt.Sprintf("linked=%q", group[0]))
		}
		fmt.Fprintf(w, "%q %s\n", e.path, strings.Join(fields, " "))
	}
	return w.Flush()
}

// read returns all paths of the tree, sorted by their bytes.
func read(root string) ([]entry, error) {
	var entries []entry
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		e := entry{path: rel}
		if err := unix.Lstat(name, &e.stat); err != nil {
			return fmt.Errorf("reading %q: %w", name, err)
		}
		entries = append(entries, e)
		return nil
	})
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	return entries, err
}

// describe returns the fields of e that do not depend on other entries, but
// for the mtime.
func describe(root string, e entry) ([]string, error) {
	name := filepath.Join(root, e.path)
	kind := map[uint32]string{
		unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
		unix.S_IFSOCK: "socket", unix.S_IFCHR: "char", unix.S_IFBLK: "block",
	}[e.stat.Mode&unix.S_IFMT]
	fields := []string{kind, fmt.Sprintf("%04o %d:%d", e.stat.Mode&0o7777, e.stat.Uid, e.stat.Gid)}
	switch kind {
	case "file":
		sum, err := digest(name)
		if err != nil {
			return nil, err
		}
		fields = append(fields, fmt.Sprintf("size=%d sha256=%s", e.stat.Size, sum))
	case "symlink":
		target, err := os.Readlink(name)
		if err != nil {
			return nil, err
		}
		fields = append(fields, fmt.Sprintf("target=%q", target))
	case "char", "block":
		fields = append(fields, fmt.Sprintf("device=%d:%d", unix.Major(e.stat.Rdev), unix.Minor(e.stat.Rdev)))
	}
	attrs, err := xattrs(name)
	return append(fields, attrs...), err
}

func digest(name string) (_ string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// xattrs returns the extended attributes of name itself, sorted, with their
// values in hexadecimal.
func xattrs(name string) ([]string, error) {
	size, err := unix.Llistxattr(name, nil)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(name, list); err != nil {
		return nil, err
	}
	var fields []string
	// An overlay announces the size with its own attributes and then hides
	// them, so that the list may be empty even now.
	for attr := range strings.FieldsFuncSeq(string(list[:size]), func(r rune) bool { return r == 0 }) {
		// XATTR_SIZE_MAX of linux/limits.h.
		value := make([]byte, 65536)
		n, err := unix.Lgetxattr(name, attr, value)
		if err != nil {
			return nil, fmt.Errorf("extended attribute %q: %w", attr, err)
		}
		fields = append(fields, fmt.Sprintf("xattr:%q=%x", attr, value[:n]))
	}
	slices.Sort(fields)
	return fields, nil
}
