package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slim/internal/flatten"
	"slim/internal/image"
	"slim/internal/layer"
)

// outputVersion names the form of the layers that are written; it changes when
// the same input and flags give other bytes.
const outputVersion = 1

// rewrite edits the documents of the source for the written layers; the image is
// the source's own when nothing was written.
func rewrite(o *squashOptions, r *platformReport, base boundary, w *writtenLayers) (*image.Image, error) {
	img := r.img
	if w == nil {
		return img, nil
	}
	family := o.family(img)
	edit := image.Rewrite{
		Kept: base.kept, CreatedBy: "slim squash", Comment: comment(o, img, base.kept),
		DropHistory: o.history == "drop", Family: family,
	}
	if base.Image != nil {
		edit.BaseHistory = base.historyLength()
		edit.KeptLayers = base.keptLayers(img)
		if o.base.Transport == image.Registry {
			edit.BaseName, edit.BaseDigest = o.base.String(), base.Digest
		}
	} else if base.kept > 0 && img.Manifest == nil && !o.toDocker() {
		r.warn("the archive has no registry blobs: its base layers are written uncompressed and shared with no other image; --base names an image whose blobs are kept")
	}
	for _, l := range w.layers {
		described, err := newLayer(family, w.compression, l)
		if err != nil {
			return nil, err
		}
		edit.New = append(edit.New, described)
	}
	return img.Rewrite(edit)
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

// family is the media type of the result's manifest: the source's. An archive
// without a manifest becomes what its target usually holds.
func (o *squashOptions) family(img *image.Image) types.MediaType {
	switch {
	case img.Manifest != nil:
		return img.MediaType
	case o.target.Transport == image.OCI || o.target.Transport == image.OCIArchive:
		return types.OCIManifestSchema1
	}
	return types.DockerManifestSchema2
}

// comment marks the history entry of the squashed layer, so that the same rewrite
// of the same source can be recognised. It knows no clock and no tool version.
func comment(o *squashOptions, img *image.Image, kept int) string {
	source := img.Digest.String()
	if img.Manifest == nil {
		sum := sha256.Sum256(img.Config)
		source = "sha256:" + hex.EncodeToString(sum[:])
	}
	options := fmt.Sprintf("format=%d kept=%d junk=%s compression=%s level=%d history=%s\n%s",
		outputVersion, kept, o.baseJunk, o.compression, o.level, o.history, o.rules.Canonical())
	sum := sha256.Sum256([]byte(options))
	return "source=" + source + " options=" + hex.EncodeToString(sum[:8])
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
