package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// outputVersion names the form of the layers that are written; it changes when
// the same input and flags give other bytes.
const outputVersion = 2

// rewrite edits the documents of the source for the written layers. Without any,
// the image is the source's own but for what flags change in its documents.
func rewrite(o *squashOptions, r *platformReport, base boundary, w *writtenLayers) (*image.Image, error) {
	img, family := r.img, o.family(r.img)
	if w == nil {
		changes, err := o.changesDocuments(img)
		if !changes || err != nil {
			return img, err
		}
		return img.Rewrite(image.Rewrite{Kept: len(img.Layers), Family: family, Edits: o.edits})
	}
	noBlob := func(l image.Layer) bool { return l.Descriptor == nil }
	if slices.ContainsFunc(base.keptLayers(img), noBlob) && !o.toDocker() {
		r.warn("the base layers have no registry blobs: they are written uncompressed and shared with no other image; --base names an image in a registry whose blobs are kept")
	}
	var upper []image.Layer
	for _, l := range w.layers {
		described, err := newLayer(family, w.compression, l)
		if err != nil {
			return nil, err
		}
		upper = append(upper, described)
	}
	return img.Rewrite(rewriteOf(o, img, base, upper))
}

// rewriteOf says how an image is rewritten that has the layers upper above its kept
// ones.
func rewriteOf(o *squashOptions, img *image.Image, base boundary, upper []image.Layer) image.Rewrite {
	edit := image.Rewrite{
		Kept: base.kept, New: upper, CreatedBy: "slim squash", Comment: comment(o, img, base),
		DropHistory: o.history == "drop", Family: o.family(img), Edits: o.edits,
	}
	if base.Image != nil {
		edit.BaseHistory = base.historyLength()
		edit.KeptLayers = base.keptLayers(img)
		edit.BaseName, edit.BaseDigest = base.name()
	}
	return edit
}

// newLayer describes a written layer for the documents.
func newLayer(family types.MediaType, c layer.Compression, w *layer.Written) (l image.Layer, err error) {
	l = image.Layer{Size: w.Size, Open: w.Open}
	if l.MediaType, err = image.LayerMediaType(family, string(c)); err != nil {
		return l, err
	}
	if l.Digest, err = v1.NewHash(w.Digest); err != nil {
		return l, err
	}
	l.DiffID, err = v1.NewHash(w.DiffID)
	return l, err
}

// family is the media type of the result's manifest: the source's, if no flag asks
// for another. An archive without a manifest becomes what its target usually holds.
func (o *squashOptions) family(img *image.Image) types.MediaType {
	switch {
	case o.format == "oci":
		return types.OCIManifestSchema1
	case o.format == "docker":
		return types.DockerManifestSchema2
	case img.Manifest != nil:
		return img.MediaType
	case o.target.Transport == image.OCI || o.target.Transport == image.OCIArchive:
		return types.OCIManifestSchema1
	}
	return types.DockerManifestSchema2
}

// comment marks the history entries of squashed layers, so that the same rewrite
// of the same source can be recognised. It knows no clock and no tool version.
func comment(o *squashOptions, img *image.Image, base boundary) string {
	source := img.Digest.String()
	if img.Manifest == nil {
		source = configDigest(img)
	}
	baseName, baseDigest := base.name()
	edits, _ := json.Marshal(o.edits) // strings and booleans
	options := fmt.Sprintf("output=%d kept=%d base=%q@%s junk=%s compression=%s level=%d max=%d format=%s history=%s edits=%s\n%s",
		outputVersion, base.kept, baseName, baseDigest, o.baseJunk, o.compression, o.level, o.maxLayer, o.format, o.history,
		edits, o.rules.Canonical())
	sum := sha256.Sum256([]byte(options))
	return "source=" + source + " options=" + hex.EncodeToString(sum[:8])
}

// configDigest is what an engine calls the ID of an image.
func configDigest(img *image.Image) string {
	sum := sha256.Sum256(img.Config)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func historyLength(config []byte) int {
	var c struct {
		History []json.RawMessage `json:"history"`
	}
	// The config was parsed strictly when the image was opened.
	if json.Unmarshal(config, &c) != nil {
		return 0
	}
	return len(c.History)
}

// fileMode gives the type bits of a kind, in which package filter is told of it.
func fileMode(k flatten.Kind) fs.FileMode {
	switch k {
	case flatten.Dir:
		return fs.ModeDir
	case flatten.Symlink:
		return fs.ModeSymlink
	case flatten.CharDevice:
		return fs.ModeDevice | fs.ModeCharDevice
	case flatten.BlockDevice:
		return fs.ModeDevice
	case flatten.Fifo:
		return fs.ModeNamedPipe
	}
	return 0
}
