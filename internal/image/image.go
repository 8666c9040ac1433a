// Package image opens, rewrites and writes container images: transports and
// references on both ends, raw JSON edits of config and manifest between them.
//
// An image is read as raw bytes and stays raw bytes: unknown fields, key order
// and large numbers of config and manifest survive a rewrite. Layers are
// handed out as the compressed bytes that are stored; whoever reads a layer to
// its end checks it against its digest and diffID, and writing checks every
// blob it copies.
//
// Formats: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
// and config.md, and Docker's image manifest version 2, schema 2.
package image

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is one image for one platform, as raw documents and layers.
type Image struct {
	// Ref names the image in messages, with its digest where it has one.
	Ref string
	// Digest is that of Manifest; zero where Manifest is nil.
	Digest v1.Hash
	// MediaType is that of Manifest; empty where Manifest is nil.
	MediaType types.MediaType
	// Manifest is nil for a classic docker-archive, which stores none.
	Manifest []byte
	// Config is the raw image config; its digest was verified.
	Config []byte
	// Platform is read from Config.
	Platform v1.Platform
	// Layers are in order, bottom first; as many as rootfs.diff_ids.
	Layers []Layer
	// Names are the references under which an archive stored the image, or
	// the tag by which it was read from a registry.
	Names []string
	// Notes tell what of the source is not part of this image, such as
	// attestations beside it in an index, one sentence each.
	Notes []string
}

// Layer is one stored layer blob.
type Layer struct {
	// Digest and Size are those of the blob as stored; in a classic
	// docker-archive the blob has no digest of its own: Digest is then zero
	// and Size is that of the archive's member.
	Digest v1.Hash
	Size   int64
	// MediaType is what the manifest claims; the bytes may disagree.
	MediaType types.MediaType
	// DiffID is what the config claims for the uncompressed layer.
	DiffID v1.Hash
	// Descriptor is the manifest's own JSON for the layer, kept verbatim for
	// layers that are not rewritten; nil in a classic docker-archive.
	Descriptor json.RawMessage
	// Foreign tells that the layer has urls or a non-distributable type: its
	// bytes are never fetched from there.
	Foreign bool
	// Open returns the blob as stored, unverified.
	Open func(context.Context) (io.ReadCloser, error)

	// origins are the repositories that are known to have the blob, so that a
	// target in the same registry can mount it.
	origins []registryBlob
}

// AlsoIn adds where another image has the same blob, so that a target can mount it
// from there too.
func (l Layer) AlsoIn(other Layer) Layer {
	if l.Digest == other.Digest && l.Digest != (v1.Hash{}) {
		l.origins = slices.Concat(l.origins, other.origins)
	}
	return l
}
