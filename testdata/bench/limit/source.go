package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// source is an image in a registry or in a layout.
type source struct {
	host, name, tag string
	// dir is the layout, if it is one.
	dir string
}

// blob is a layer.
type blob struct {
	digest, diffID string
	size           int64
}

type descriptor struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func openSource(ctx context.Context, s string) (source, error) {
	if dir, ok := strings.CutPrefix(s, "oci:"); ok {
		return source{dir: dir}, nil
	}
	host, name, tag, err := splitName(s)
	return source{host: host, name: name, tag: tag}, err
}

// layers returns the image's layers, bottom first.
func (s source) layers(ctx context.Context) ([]blob, error) {
	var manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := s.manifest(ctx, &manifest); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	if err := decode(s.open(ctx, manifest.Config.Digest))(&config); err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%d layers and %d diffIDs", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	blobs := make([]blob, len(manifest.Layers))
	for i, l := range manifest.Layers {
		blobs[i] = blob{l.Digest, config.RootFS.DiffIDs[i], l.Size}
	}
	return blobs, nil
}

// manifest reads the manifest of one image.
func (s source) manifest(ctx context.Context, to any) error {
	if s.dir == "" {
		return decode(s.get(ctx, "manifests/"+s.tag))(to)
	}
	var index struct{ Manifests []descriptor }
	f, err := os.Open(filepath.Join(s.dir, "index.json"))
	if err := decode(f, err)(&index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%d images instead of one", len(index.Manifests))
	}
	return decode(s.open(ctx, index.Manifests[0].Digest))(to)
}

// open returns the bytes of a blob.
func (s source) open(ctx context.Context, digest string) (io.ReadCloser, error) {
	if s.dir == "" {
		return s.get(ctx, "blobs/"+digest)
	}
	return os.Open(filepath.Join(s.dir, "blobs", strings.Replace(digest, ":", "/", 1)))
}

// accept are the kinds of manifests of one image.
const accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"

func (s source) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.host+"/v2/"+s.name+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	// No transparent decoding: the bytes are those of the blob.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the registry answers %s", resp.Status)
	}
	return resp.Body, nil
}

// decode returns a function that reads a JSON document from what was opened.
func decode(rc io.ReadCloser, err error) func(any) error {
	return func(to any) error {
		if err != nil {
			return err
		}
		return errors.Join(json.NewDecoder(rc).Decode(to), rc.Close())
	}
}
