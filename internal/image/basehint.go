package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BaseHint is what an image tells about the image that it was built on. It is a
// claim: only the diffIDs show whether it holds.
type BaseHint struct {
	// Name is a registry reference without digest; empty if only Digest is
	// known.
	Name string
	// Digest is that of a manifest or index; zero if only Name is known.
	Digest v1.Hash
	// Rule says where the image tells it.
	Rule string
	// Err is why what it tells makes no sense; HintRef returns it.
	Err error
}

// Bounds on what is read of BuildKit's provenance.
const (
	maxProvenance = 16 << 20 // bytes of a statement
	maxHints      = 64
)

// BaseHints lists what one of Images tells about its base: annotations of the
// manifest or of its entry in the index, then labels, then BuildKit's provenance
// beside it. See https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
func (s *Selection) BaseHints(ctx context.Context, img *Image) ([]BaseHint, error) {
	var hints []BaseHint
	add := func(rule string, m map[string]string) {
		if h := hintOf(rule, m); h.Name != "" || h.Digest != (v1.Hash{}) || h.Err != nil {
			hints = append(hints, h)
		}
	}
	annotations, err := img.Annotations()
	if err != nil {
		return nil, err
	}
	labels, err := img.Labels()
	if err != nil {
		return nil, err
	}
	add("annotations of the manifest", annotations)
	var beside []entry
	s.tree.all(func(e entry) {
		switch {
		case e.Digest != (v1.Hash{}) && e.Digest == img.Digest:
			add("annotations in the index", e.Annotations)
		case e.node.kind == attestationNode && e.Annotations[referenceDigest] == img.Digest.String():
			beside = append(beside, e)
		}
	})
	add("labels", labels)
	for _, e := range beside {
		if len(hints) >= maxHints {
			break
		}
		found, err := s.provenance(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("reading the provenance %s: %w", e.Digest, err)
		}
		hints = append(hints, found...)
	}
	return hints[:min(len(hints), maxHints)], nil
}

func hintOf(rule string, m map[string]string) BaseHint {
	h := BaseHint{Name: m[baseNameAnnotation], Rule: rule}
	if d := m[baseDigestAnnotation]; d != "" {
		h.Digest, h.Err = parseDigest(d)
	}
	return h
}

// provenance reads the images that went into a build from BuildKit's statements.
func (s *Selection) provenance(ctx context.Context, e entry) ([]BaseHint, error) {
	if e.node.absent {
		return nil, nil
	}
	raw, err := s.read(ctx, e.descriptor)
	if err != nil {
		return nil, err
	}
	var hints []BaseHint
	blobs, _ := references(raw)
	for _, b := range blobs {
		if !strings.HasPrefix(b.Annotations[predicateType], "https://slsa.dev/provenance/") {
			continue
		}
		rc, err := s.tree.store.blob(ctx, b)
		if err != nil {
			return nil, err
		}
		statement, err := readDocument(rc, b.Digest, b.Size, maxProvenance)
		if err != nil {
			return nil, err
		}
		for _, h := range materials(statement) {
			if len(hints) == maxHints {
				return hints, nil
			}
			if !slices.Contains(hints, h) {
				hints = append(hints, h)
			}
		}
	}
	return hints, nil
}

// materials are the images in an SLSA provenance of version 0.2 or 1; of another
// form there are none.
func materials(statement []byte) []BaseHint {
	type material struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	var doc struct {
		Predicate struct {
			Materials       []material `json:"materials"`
			BuildDefinition struct {
				ResolvedDependencies []material `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if checkDocument(statement, maxProvenance) != nil || json.Unmarshal(statement, &doc) != nil {
		return nil
	}
	var hints []BaseHint
	for _, m := range slices.Concat(doc.Predicate.Materials, doc.Predicate.BuildDefinition.ResolvedDependencies) {
		name, ok := packageImage(m.URI)
		if !ok {
			continue
		}
		h := BaseHint{Name: name, Rule: "BuildKit provenance"}
		if d, err := parseDigest("sha256:" + m.Digest["sha256"]); err == nil {
			h.Digest = d
		}
		hints = append(hints, h)
	}
	return hints
}

// packageImage reads the image of a package URL such as
// pkg:docker/debian@12?platform=linux%2Famd64, see
// https://github.com/package-url/purl-spec
func packageImage(purl string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(purl, "pkg:docker/")
	if !ok {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "?")
	path, version, _ := strings.Cut(rest, "@")
	path, err1 := url.PathUnescape(path)
	version, err2 := url.PathUnescape(version)
	if err1 != nil || err2 != nil || path == "" {
		return "", false
	}
	if version != "" && !strings.Contains(version, ":") {
		path += ":" + version
	}
	return path, true
}

// HintRef returns the reference of a base that an image names: by digest where it
// is known, in the repository of the image where no other is named.
func HintRef(h BaseHint, source Ref) (Ref, error) {
	if h.Err != nil {
		return Ref{}, h.Err
	}
	text := h.Name
	if text == "" && source.Transport == Registry {
		text = repositoryTyped(source.Name)
	}
	if text == "" {
		return Ref{}, errors.New("there is a digest and no name")
	}
	if h.Digest != (v1.Hash{}) {
		text, _, _ = strings.Cut(text, "@")
		text += "@" + h.Digest.String()
	}
	return parseRegistry(text, text)
}
