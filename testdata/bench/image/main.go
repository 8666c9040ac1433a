// Command image writes an OCI image layout whose files are made up from seeds: as
// many, as large and in as many layers as a measurement needs, the same bytes each
// time. Its content shrinks with gzip to about two fifths, as that of real images
// does: half is text, most of the rest resembles machine code, a little is random.
//
// Usage: image DIR LAYER...
//
// A LAYER is BYTES:FILES[xN][@SEED]: N layers of so many bytes in so many files, from
// the seeds SEED, SEED+1, …; without a seed, from the place of the layer. BYTES may
// end in k, M or G, which are decimal. Equal seeds, bytes and files above an equal
// bottom layer give equal layers. Each layer above the bottom one writes one in 20 of
// its files over a file of the bottom layer, and removes one more for every 200.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/pgzip"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: image DIR BYTES:FILES[xN][@SEED]...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "image: error:", err)
		os.Exit(1)
	}
}

func run(dir string, args []string) error {
	var specs []spec
	for _, arg := range args {
		more, err := parse(arg, len(specs))
		if err != nil {
			return fmt.Errorf("reading %q: %w", arg, err)
		}
		specs = append(specs, more...)
	}
	l := layout{dir}
	if err := os.MkdirAll(l.blob(""), 0o755); err != nil {
		return err
	}
	var layers []descriptor
	var diffIDs []string
	for i, s := range specs {
		d, diffID, err := l.layer(s, specs[0], i == 0)
		if err != nil {
			return fmt.Errorf("writing layer %d: %w", i+1, err)
		}
		layers, diffIDs = append(layers, d), append(diffIDs, diffID)
	}
	return l.finish(layers, diffIDs)
}

// spec is one layer.
type spec struct {
	bytes int64
	files int
	seed  uint64
}

// parse reads an argument; place is that of its first layer.
func parse(arg string, place int) ([]spec, error) {
	rest, seedText, seeded := strings.Cut(arg, "@")
	seed := uint64(place)
	if seeded {
		var err error
		if seed, err = strconv.ParseUint(seedText, 10, 32); err != nil {
			return nil, err
		}
	}
	rest, times, repeated := strings.Cut(rest, "x")
	n := 1
	if repeated {
		var err error
		if n, err = strconv.Atoi(times); err != nil {
			return nil, err
		}
	}
	bytesText, filesText, _ := strings.Cut(rest, ":")
	size, err := parseSize(bytesText)
	if err != nil {
		return nil, err
	}
	files, err := strconv.Atoi(filesText)
	if err != nil {
		return nil, err
	}
	if n < 1 || files < 1 || size < 0 {
		return nil, errors.New("not a layer: BYTES:FILES[xN][@SEED]")
	}
	var specs []spec
	for i := range n {
		specs = append(specs, spec{bytes: size, files: files, seed: seed + uint64(i)})
	}
	return specs, nil
}

// parseSize reads a number of bytes with a decimal unit.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'k':
			unit = 1e3
		case 'M':
			unit = 1e6
		case 'G':
			unit = 1e9
		}
	}
	if unit > 1 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return n * unit, err
}

// layout is an OCI image layout that is being written, see image-layout.md of the
// image specification.
type layout struct{ dir string }

func (l layout) blob(digest string) string {
	return filepath.Join(l.dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// layer writes a layer and returns its descriptor and diffID.
func (l layout) layer(s, bottom spec, isBottom bool) (_ descriptor, _ string, err error) {
	f, err := os.CreateTemp(l.dir, "layer-*")
	if err != nil {
		return descriptor{}, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stored, plain := sha256.New(), sha256.New()
	z := pgzip.NewWriter(io.MultiWriter(f, stored))
	if err := z.SetConcurrency(1<<20, runtime.GOMAXPROCS(0)); err != nil {
		return descriptor{}, "", err
	}
	tw := tar.NewWriter(io.MultiWriter(z, plain))
	if err := writeLayer(tw, s, bottom, isBottom); err != nil {
		return descriptor{}, "", err
	}
	if err := errors.Join(tw.Close(), z.Close()); err != nil {
		return descriptor{}, "", err
	}
	info, err := f.Stat()
	if err != nil {
		return descriptor{}, "", err
	}
	digest := fmt.Sprintf("sha256:%x", stored.Sum(nil))
	d := descriptor{"application/vnd.oci.image.layer.v1.tar+gzip", digest, info.Size()}
	return d, fmt.Sprintf("sha256:%x", plain.Sum(nil)), os.Rename(f.Name(), l.blob(digest))
}

// created is the time of every image and file.
var created = time.Unix(1700000000, 0).UTC()

// finish writes config, manifest and index.
func (l layout) finish(layers []descriptor, diffIDs []string) error {
	history := make([]any, len(layers))
	for i := range history {
		history[i] = map[string]any{"created": created, "created_by": fmt.Sprintf("made up, layer %d", i+1)}
	}
	config, err := l.document("application/vnd.oci.image.config.v1+json", map[string]any{
		"created": created, "architecture": "amd64", "os": "linux",
		"config":  map[string]any{"Cmd": []string{"/bin/sh"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffIDs},
		"history": history,
	})
	if err != nil {
		return err
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := l.document(manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers,
	})
	if err != nil {
		return err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// document writes v as a JSON blob.
func (l layout) document(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	return descriptor{mediaType, digest, int64(len(data))}, os.WriteFile(l.blob(digest), data, 0o644)
}
