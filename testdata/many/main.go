// Command many writes images of very many entries as OCI layouts, to measure what
// slim takes for them. Contents are a byte or nothing, layers are not compressed,
// and the bytes depend on nothing but this source.
//
// Usage: go run ./testdata/many [-n ENTRIES] SHAPE DIR
package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// shape writes one layer after the other; n is about how many entries they have.
type shape func(img *layout, n int) error

var shapes = map[string]shape{
	"folders":   folders,
	"directory": directory,
	"upper":     upper,
	"hardlinks": hardlinks,
	"pairs":     pairs,
	"layers":    layers,
	"rebound":   rebound,
	"symlinks":  symlinks,
	"nested":    nested,
	"names":     names,
}

func main() {
	n := flag.Int("n", 1_000_000, "about how many `ENTRIES` the image has")
	flag.Parse()
	make, ok := shapes[flag.Arg(0)]
	if !ok || flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: many [-n ENTRIES] SHAPE DIR; shapes:", strings.Join(slices.Sorted(maps.Keys(shapes)), " "))
		os.Exit(2)
	}
	if err := write(flag.Arg(1), make, *n); err != nil {
		fmt.Fprintln(os.Stderr, "many: error:", err)
		os.Exit(1)
	}
}

// folders has its files in folders of 50.
func folders(img *layout, n int) error {
	return img.layer(func(l *layer) {
		for d := range n / 50 {
			l.dir(fmt.Sprintf("srv/folder-%05d/", d))
			for f := range 50 {
				l.file(fmt.Sprintf("srv/folder-%05d/file-%02d.txt", d, f))
			}
		}
	})
}

// directory has them in a single directory, in no order.
func directory(img *layout, n int) error {
	return img.layer(func(l *layer) {
		for i := range n {
			l.file(fmt.Sprintf("spool/message-%07d", shuffled(i, n)))
		}
	})
}

// upper has half of them in a base layer and half above it, in the same directory.
func upper(img *layout, n int) error {
	for part := range 2 {
		if err := img.layer(func(l *layer) {
			for i := range n / 2 {
				l.file(fmt.Sprintf("spool/message-%07d", 2*shuffled(i, n/2)+part))
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// hardlinks are names of ten files.
func hardlinks(img *layout, n int) error {
	return img.layer(func(l *layer) {
		for i := range 10 {
			l.file(fmt.Sprintf("first-%d", i))
		}
		for i := range n {
			l.link(fmt.Sprintf("links/%03d/name-%07d", i/1000, i), fmt.Sprintf("first-%d", i%10))
		}
	})
}

// pairs are files with two names each.
func pairs(img *layout, n int) error {
	return img.layer(func(l *layer) {
		for i := range n / 2 {
			name := fmt.Sprintf("pairs/%03d/name-%07d", i/1000, i)
			l.file(name)
			l.link(name+".link", name)
		}
	})
}

// layers are 127 that write the same files again, and some of their own.
func layers(img *layout, n int) error {
	for k := range 127 {
		if err := img.layer(func(l *layer) {
			for i := range n / 254 {
				l.file(fmt.Sprintf("opt/app/shared-%05d", shuffled(i, n/254)))
				l.file(fmt.Sprintf("opt/app/own-%03d/file-%05d", k, i))
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// rebound has its files in the lowest layer; 126 above it make a hardlink to one of
// them, with another header.
func rebound(img *layout, n int) error {
	if err := folders(img, n); err != nil {
		return err
	}
	for k := range 126 {
		if err := img.layer(func(l *layer) {
			l.header(tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprintf("again-%03d", k), Linkname: fmt.Sprintf("srv/folder-%05d/file-00.txt", k), Mode: 0o600})
		}); err != nil {
			return err
		}
	}
	return nil
}

// symlinks have targets of 4 KB; there are a tenth as many.
func symlinks(img *layout, n int) error {
	return img.layer(func(l *layer) {
		for i := range n / 10 {
			target := fmt.Sprintf("%07d/", i) + strings.Repeat("target/", 4000/7)
			l.header(tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("links/%03d/link-%06d", i/1000, i), Linkname: target, Mode: 0o777})
		}
	})
}

// nested are directories, two in each, about twenty deep.
func nested(img *layout, n int) error {
	return img.layer(func(l *layer) {
		left := n
		var fill func(prefix string, depth int)
		fill = func(prefix string, depth int) {
			for _, name := range []string{"left", "right"} {
				if left == 0 || depth == 0 {
					return
				}
				left--
				l.dir(prefix + name + "/")
				fill(prefix+name+"/", depth-1)
			}
		}
		fill("", 19)
	})
}

// names are as long as Linux allows, in paths nearly as long.
func names(img *layout, n int) error {
	return img.layer(func(l *layer) {
		dir := strings.Repeat(strings.Repeat("d", 255)+"/", 14)
		for i := range n {
			l.file(dir + fmt.Sprintf("%0255d", i))
		}
	})
}

// shuffled maps 0 to n-1 onto themselves, like the order in which a file system
// with hashed names lists them.
func shuffled(i, n int) int {
	const prime = 7_368_787
	return int(int64(i) * prime % int64(n))
}

// layer is a tar on its way into a blob.
type layer struct {
	tw  *tar.Writer
	err error
}

var epoch = time.Unix(1_700_000_000, 0)

func (l *layer) header(h tar.Header) {
	if h.ModTime.IsZero() {
		h.ModTime = epoch
	}
	l.err = errors.Join(l.err, l.tw.WriteHeader(&h))
}

func (l *layer) dir(name string) {
	l.header(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (l *layer) file(name string) {
	l.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 1})
	_, err := l.tw.Write([]byte{name[len(name)-1]})
	l.err = errors.Join(l.err, err)
}

func (l *layer) link(name, target string) {
	l.header(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644})
}

// descriptor names a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// layout is an image on its way into a directory.
type layout struct {
	dir    string
	layers []descriptor
}

func write(dir string, make shape, n int) error {
	img := &layout{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	if err := make(img, n); err != nil {
		return err
	}
	return img.documents()
}

// layer adds a layer.
func (img *layout) layer(fill func(*layer)) error {
	d, err := img.blob("application/vnd.oci.image.layer.v1.tar", func(w io.Writer) error {
		l := &layer{tw: tar.NewWriter(w)}
		fill(l)
		return errors.Join(l.err, l.tw.Close())
	})
	img.layers = append(img.layers, d)
	return err
}

// documents writes config, manifest and index.
func (img *layout) documents() error {
	ids := []string{}
	for _, l := range img.layers {
		ids = append(ids, l.Digest)
	}
	config, err := img.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return err
	}
	manifest, err := img.json("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": img.layers,
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "1"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	version := os.WriteFile(filepath.Join(img.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
	return errors.Join(version, os.WriteFile(filepath.Join(img.dir, "index.json"), index, 0o644))
}

func (img *layout) json(mediaType string, v any) (descriptor, error) {
	return img.blob(mediaType, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

// blob writes a blob under its digest.
func (img *layout) blob(mediaType string, fill func(io.Writer) error) (d descriptor, err error) {
	f, err := os.CreateTemp(img.dir, "blob-*")
	if err != nil {
		return d, err
	}
	w := &hashed{w: bufio.NewWriterSize(f, 1<<20), h: sha256.New()}
	if err = errors.Join(fill(w), w.w.Flush(), f.Chmod(0o644), f.Close()); err != nil {
		return d, err
	}
	hex := fmt.Sprintf("%x", w.h.Sum(nil))
	return descriptor{MediaType: mediaType, Digest: "sha256:" + hex, Size: w.n}, os.Rename(f.Name(), filepath.Join(img.dir, "blobs", "sha256", hex))
}

// hashed counts and hashes what is written.
type hashed struct {
	w *bufio.Writer
	h hash.Hash
	n int64
}

func (w *hashed) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	w.h.Write(p)
	return w.w.Write(p)
}
