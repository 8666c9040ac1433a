package flatten

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxHops bounds the symlinks followed for one path, as Linux does.
const maxHops = 255

// maxSteps bounds the components walked for one path with all its symlinks.
const maxSteps = 4 * MaxPath

var errLoop = fmt.Errorf("more than %d symlinks, or %d components in them", maxHops, maxSteps)

var errNotDir = errors.New("not a directory")

// walker follows a path with its symlinks inside a tree, as a process in a chroot
// would: ".." stops at the root, absolute targets start there.
type walker struct {
	*store
	root number
	// find returns a child, 0 for none; nil for [store.child].
	find func(dir number, name string) number
	// create, where set, makes a missing directory.
	create func(dir number, name string) (number, error)
	// visit, where set, is told every name that is gone through, before symlinks
	// are followed.
	visit func(dir number, name string)
	// hops counts the symlinks that were followed.
	hops int
}

// walk returns the inode at p after following every symlink, 0 if something on
// the way is missing and is not to be made, and an error for loops and for paths
// that go through what is no directory.
func (w *walker) walk(p string) (number, error) {
	return w.from([]number{w.root}, p)
}

// from walks p from the last of a chain of directories that starts at the root.
func (w *walker) from(chain []number, p string) (number, error) {
	rest := components(nil, p)
	for steps := 0; len(rest) > 0; steps++ {
		if steps > maxSteps {
			return 0, errLoop
		}
		name := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		d := chain[len(chain)-1]
		if name == ".." {
			chain = chain[:max(1, len(chain)-1)]
			continue
		}
		if !w.isDir(d) {
			return 0, fmt.Errorf("%q: %w", name, errNotDir)
		}
		c, err := w.step(d, name)
		if c == 0 || err != nil {
			return 0, err
		}
		n := w.node(c)
		if n.kind != Symlink {
			chain = append(chain, c)
			continue
		}
		if w.hops++; w.hops > maxHops {
			return 0, errLoop
		}
		target := w.target(n)
		if path.IsAbs(target) {
			chain = chain[:1]
		}
		if rest = components(rest, target); len(rest) > MaxPath {
			return 0, errLoop
		}
	}
	return chain[len(chain)-1], nil
}

func (w *walker) step(d number, name string) (number, error) {
	if w.visit != nil {
		w.visit(d, name)
	}
	c := number(0)
	if w.find != nil {
		c = w.find(d, name)
	} else {
		c = w.child(d, name)
	}
	if c == 0 && w.create != nil {
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
func (w *walker) follow(chain []number, link number) (number, error) {
	w.hops++
	target := w.target(w.node(link))
	if path.IsAbs(target) {
		chain = chain[:1]
	}
	// Walking writes into the chain.
	return w.from(slices.Clone(chain), target)
}

// resolve returns the inode at p with the symlinks in its parents followed, but
// not a symlink at p itself; 0 if there is none.
func (t *Tree) resolve(p string) number {
	dir, name := path.Split(p)
	w := walker{store: t.store, root: t.root}
	d, err := w.walk(dir)
	if err != nil || d == 0 || name == "" {
		return 0
	}
	return t.child(d, name)
}
