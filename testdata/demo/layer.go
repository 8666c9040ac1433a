package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// inode is a file, directory or symlink: several names of one inode are
// hardlinks.
type inode struct {
	hdr     tar.Header
	content []byte
}

// image is the filesystem as the steps before left it.
type image struct {
	names  map[string]*inode
	status []string // paragraphs of var/lib/dpkg/status
}

func newImage() *image {
	return &image{names: map[string]*inode{}}
}

// layer records what one step changes, as an engine does: the parents of every
// change are entries too, with what they have been before.
type layer struct {
	*image
	tw      *tar.Writer
	buf     bytes.Buffer
	written map[string]bool
	now     time.Time
	uid     int
	gid     int
	err     error
}

func (img *image) newLayer(now time.Time) *layer {
	l := &layer{image: img, now: now, written: map[string]bool{}}
	l.tw = tar.NewWriter(&l.buf)
	return l
}

// close ends the layer and returns its tar.
func (l *layer) close() ([]byte, error) {
	err := errors.Join(l.err, l.tw.Close())
	return l.buf.Bytes(), err
}

// owner sets who owns what follows.
func (l *layer) owner(uid, gid int) { l.uid, l.gid = uid, gid }

// dir makes a directory or gives it another mode and owner.
func (l *layer) dir(name string, mode int64) {
	l.make(name, &inode{hdr: tar.Header{Typeflag: tar.TypeDir, Mode: mode}})
}

// file writes a file.
func (l *layer) file(name string, mode int64, content []byte) {
	l.make(name, &inode{hdr: tar.Header{Typeflag: tar.TypeReg, Mode: mode}, content: content})
}

// symlink makes name point to target.
func (l *layer) symlink(name, target string) {
	l.make(name, &inode{hdr: tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}})
}

// link gives the file target, written earlier in this layer, one more name.
func (l *layer) link(name, target string) {
	n, ok := l.names[target]
	if !ok || !l.written[target] {
		l.fail("linking %q to %q, which is not in this layer", name, target)
		return
	}
	l.parents(name, true)
	l.names[name] = n
	l.putLink(name, target, n)
}

// whiteout removes a file or a whole tree of the layers below.
func (l *layer) whiteout(name string) {
	if _, ok := l.names[name]; !ok {
		l.fail("removing %q, which is not there", name)
		return
	}
	l.parents(name, true)
	l.forget(name)
	l.marker(path.Join(path.Dir(name), ".wh."+path.Base(name)))
}

// opaque replaces a directory of the layers below by an empty one.
func (l *layer) opaque(name string, mode int64) {
	l.forget(name)
	l.dir(name, mode)
	l.marker(path.Join(name, ".wh..wh..opq"))
}

// update writes the tree at root again after change has edited each of its
// headers, as chmod -R and chown -R do on an overlay.
func (l *layer) update(root string, change func(*tar.Header)) {
	l.parents(root, false)
	first := map[*inode]string{}
	fresh := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(l.names)) {
		if name != root && !strings.HasPrefix(name, root+"/") {
			continue
		}
		old := l.names[name]
		if target, ok := first[old]; ok {
			l.names[name] = fresh[old]
			l.putLink(name, target, fresh[old])
			continue
		}
		n := &inode{hdr: old.hdr, content: old.content}
		n.hdr.PAXRecords = maps.Clone(old.hdr.PAXRecords)
		change(&n.hdr)
		first[old], fresh[old] = name, n
		l.names[name] = n
		l.put(name, n)
	}
}

// make gives an inode its first name.
func (l *layer) make(name string, n *inode) {
	_, replaced := l.names[name]
	l.parents(name, !replaced)
	if n.hdr.Typeflag != tar.TypeDir {
		l.forget(name)
	}
	l.now = l.now.Add(40 * time.Millisecond)
	n.hdr.ModTime = l.now.Truncate(time.Second)
	n.hdr.Uid, n.hdr.Gid = l.uid, l.gid
	l.names[name] = n
	l.put(name, n)
}

// parents writes the directories above name that this layer has not yet, the
// last one with a new mtime if a name in it comes or goes.
func (l *layer) parents(name string, changed bool) {
	parent := path.Dir(name)
	if parent == "." || l.written[parent] {
		return
	}
	l.parents(parent, false)
	n, ok := l.names[parent]
	if !ok {
		n = &inode{hdr: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755, Uid: l.uid, Gid: l.gid, ModTime: l.now.Truncate(time.Second)}}
		l.names[parent] = n
	}
	if n.hdr.Typeflag != tar.TypeDir {
		l.fail("writing %q below something that is no directory", name)
	}
	if changed {
		n.hdr.ModTime = l.now.Truncate(time.Second)
	}
	l.put(parent, n)
}

// forget drops name and what is below it from the image.
func (l *layer) forget(name string) {
	maps.DeleteFunc(l.names, func(other string, _ *inode) bool {
		return other == name || strings.HasPrefix(other, name+"/")
	})
}

func (l *layer) put(name string, n *inode) {
	hdr := n.hdr
	hdr.Name, hdr.Size = name, int64(len(n.content))
	if hdr.Typeflag == tar.TypeDir {
		hdr.Name += "/"
	}
	l.write(name, hdr, n.content)
}

func (l *layer) putLink(name, target string, n *inode) {
	hdr := n.hdr
	hdr.Typeflag, hdr.Name, hdr.Linkname = tar.TypeLink, name, target
	l.write(name, hdr, nil)
}

func (l *layer) marker(name string) {
	l.write(name, tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: l.now.Truncate(time.Second)}, nil)
}

func (l *layer) write(name string, hdr tar.Header, content []byte) {
	if l.err != nil {
		return
	}
	if l.written[name] {
		l.fail("writing %q twice", name)
		return
	}
	l.written[name] = true
	if l.err = l.tw.WriteHeader(&hdr); l.err == nil {
		_, l.err = l.tw.Write(content)
	}
}

func (l *layer) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}
