package stacks_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/tartest"
)

// prefix returns the folder of stack i, with a slash.
func (b batch) prefix(i int) string {
	if b.root {
		return ""
	}
	return fmt.Sprintf("s%04d/", i+1)
}

// ballast returns a stack that changes something in every layer, so that a part of
// a batch has as many layers as all of it, and none that slim leaves as it is.
func (b batch) ballast() stack {
	layers := []string{"0"}
	for i := 1; i < b.height; i++ {
		layers = append(layers, fmt.Sprintf("✗%d %d", i-1, i))
	}
	return stack{name: "ballast", layers: strings.Join(layers, " | "), want: strconv.Itoa(b.height - 1)}
}

// source returns the layers of all stacks.
func (b batch) source() [][]tartest.Entry {
	return b.merge(func(s stack) string { return s.layers })
}

// reference returns the layers of the tree that all others are compared with.
func (b batch) reference() [][]tartest.Entry {
	return b.merge(func(s stack) string {
		if s.want != "" {
			return s.want
		}
		return s.layers
	})
}

// merge puts stacks beside each other. A layer of a stack that is not empty
// begins with the stack's folder.
func (b batch) merge(text func(stack) string) [][]tartest.Entry {
	var layers [][]tartest.Entry
	for i, s := range b.stacks {
		prefix := b.prefix(i)
		for n, entries := range tartest.Parse(text(s)) {
			if n == len(layers) {
				layers = append(layers, nil)
			}
			if prefix != "" && len(entries) > 0 {
				layers[n] = append(layers[n], tartest.Parse(prefix)[0]...)
			}
			for _, e := range entries {
				layers[n] = append(layers[n], below(prefix, e))
			}
		}
	}
	return layers
}

// tick is the unit of time of the stacks: a fraction, since engines keep
// nanoseconds.
const tick = 123456789

// below returns an entry below the folder of its stack.
func below(prefix string, e tartest.Entry) tartest.Entry {
	e.ModTime = time.Unix(0, e.ModTime.Unix()*tick)
	e.Name = prefixed(prefix, e.Name)
	if e.Typeflag == tar.TypeLink || e.Typeflag == tar.TypeSymlink && strings.HasPrefix(e.Linkname, "/") {
		e.Linkname = prefixed(prefix, e.Linkname)
	}
	return e
}

// prefixed puts prefix before a name and keeps the form in which it begins.
func prefixed(prefix, name string) string {
	for _, form := range []string{"/", "./"} {
		if rest, ok := strings.CutPrefix(name, form); ok {
			return form + prefix + rest
		}
	}
	return prefix + name
}

// image returns an OCI image of layers.
func image(layers [][]tartest.Entry) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Cmd: []string{"/cmd"}},
	})
	if err != nil {
		return nil, err
	}
	for _, entries := range layers {
		b := tartest.Tar(entries...)
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		l, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// refName is the annotation that names an image of a layout.
const refName = "org.opencontainers.image.ref.name"

// writeLayout writes images by their tags to a new OCI layout.
func writeLayout(dir string, images map[string][][]tartest.Entry) error {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	for _, tag := range slices.Sorted(maps.Keys(images)) {
		img, err := image(images[tag])
		if err != nil {
			return err
		}
		if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			return err
		}
	}
	return nil
}

// writeArchive writes what docker save writes.
func writeArchive(file, tag string, layers [][]tartest.Entry) error {
	img, err := image(layers)
	if err != nil {
		return err
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, ref, img)
}

// open returns the image tag of the layout dir.
func open(dir, tag string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Annotations[refName] == tag {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("no image %q in %s", tag, filepath.Base(dir))
}

// checkLayers compares the layers of the results: the same tars in every form,
// the base's descriptors as they were, one layer above at most.
func checkLayers(dir, kind string, boundary int) error {
	source, err := open(filepath.Join(dir, "source"), "source")
	if err != nil {
		return err
	}
	gzip, err := open(filepath.Join(dir, "gzip"), kind)
	if err != nil {
		return err
	}
	zstd, err := open(filepath.Join(dir, "zstd"), kind)
	if err != nil {
		return err
	}
	archive, err := tarball.ImageFromPath(filepath.Join(dir, kind+".docker.tar"), nil)
	if err != nil {
		return err
	}
	want, err := diffIDs(gzip)
	if err != nil {
		return err
	}
	for _, img := range []v1.Image{zstd, archive} {
		got, err := diffIDs(img)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s: zstd or docker-archive has the diffIDs %s, gzip has %s", kind, got, want)
		}
	}
	for _, img := range []v1.Image{gzip, zstd} {
		if err := checkBase(source, img, boundary); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

func diffIDs(img v1.Image) (string, error) {
	c, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	return fmt.Sprint(c.RootFS.DiffIDs), nil
}

func checkBase(source, result v1.Image, boundary int) error {
	s, err := source.Manifest()
	if err != nil {
		return err
	}
	r, err := result.Manifest()
	if err != nil {
		return err
	}
	if n := len(r.Layers); n < boundary || n > boundary+1 {
		return fmt.Errorf("%d layers above a boundary of %d", n-boundary, boundary)
	}
	for i := range boundary {
		if s.Layers[i].Digest != r.Layers[i].Digest || s.Layers[i].MediaType != r.Layers[i].MediaType {
			return fmt.Errorf("layer %d is %s, the source's is %s", i+1, r.Layers[i].Digest, s.Layers[i].Digest)
		}
	}
	return nil
}
