package flatten

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxSteps bounds the components walked for one path with all its symlinks.
const maxSteps = 4 * MaxPath

var errLoop = fmt.Errorf("more than %d symlinks, or %d components in them", maxHops, maxSteps)

var errNotDir = errors.New("not a directory")

// walker follows a path with its symlinks inside a tree, as a process in a chroot
// would: ".." stops at the root, absolute targets start there.
type walker struct {
	root *Inode
	// create, where set, makes a missing directory.
	create func(dir *Inode, name string) (*Inode, error)
	// visit, where set, is told every name that is gone through, before symlinks
	// are followed.
	visit func(dir *Inode, name string)
	// hops counts the symlinks that were followed.
	hops int
}

// walk returns the inode at p after following every symlink, nil if something on
// the way is missing and is not to be made, and an error for loops and for paths
// that go through what is no directory.
func (w *walker) walk(p string) (*Inode, error) {
	return w.from([]*Inode{w.root}, p)
}

// from walks p from the last of a chain of directories that starts at the root.
func (w *walker) from(chain []*Inode, p string) (*Inode, error) {
	rest := components(nil, p)
	for steps := 0; len(rest) > 0; steps++ {
		if steps > maxSteps {
			return nil, errLoop
		}
		name := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		d := chain[len(chain)-1]
		if name == ".." {
			chain = chain[:max(1, len(chain)-1)]
			continue
		}
		if d.Kind != Dir {
			return nil, fmt.Errorf("%q: %w", name, errNotDir)
		}
		c, err := w.step(d, name)
		if c == nil || err != nil {
			return nil, err
		}
		if c.Kind != Symlink {
			chain = append(chain, c)
			continue
		}
		if w.hops++; w.hops > maxHops {
			return nil, errLoop
		}
		if path.IsAbs(c.Link) {
			chain = chain[:1]
		}
		if rest = components(rest, c.Link); len(rest) > MaxPath {
			return nil, errLoop
		}
	}
	return chain[len(chain)-1], nil
}

func (w *walker) step(d *Inode, name string) (*Inode, error) {
	if w.visit != nil {
		w.visit(d, name)
	}
	c := d.children.names[name]
	if c == nil && w.create != nil {
		return w.create(d, name)
	}
	return c, nil
}

// components pushes the components of p onto a stack, the first on top.
func components(stack []string, p string) []string {
	at := len(stack)
	for c := range strings.SplitSeq(p, "/") {
		if c != "" && c != "." {
			stack = append(stack, c)
		}
	}
	slices.Reverse(stack[at:])
	return stack
}

// follow returns what a symlink leads to that lies in the last of a chain of
// directories.
func (w *walker) follow(chain []*Inode, link *Inode) (*Inode, error) {
	w.hops++
	if path.IsAbs(link.Link) {
		chain = chain[:1]
	}
	return w.from(slices.Clip(chain), link.Link)
}

// resolve returns the inode at p with the symlinks in its parents followed, but
// not a symlink at p itself; nil if there is none.
func (t *Tree) resolve(p string) *Inode {
	dir, name := path.Split(p)
	w := walker{root: t.root}
	d, err := w.walk(dir)
	if err != nil || d == nil || name == "" {
		return nil
	}
	return d.child(name)
}
