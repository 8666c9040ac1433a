package image

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The annotation of a layer in an attestation manifest that says what the
// statement in it is, see https://github.com/in-toto/attestation.
const predicateType = "in-toto.io/predicate-type"

// subject returns the digest that an entry beside the images is about; zero if
// it is about none.
func (s *Selection) subject(ctx context.Context, e entry) (v1.Hash, error) {
	if text := e.Annotations[referenceDigest]; text != "" {
		h, err := parseDigest(text)
		if err != nil {
			return h, fmt.Errorf("annotation %s: %w", referenceDigest, err)
		}
		return h, nil
	}
	if e.node.kind == imageNode || e.node.absent || s.tree.store == nil {
		return v1.Hash{}, nil
	}
	if subject, ok := s.subjects[e.Digest]; ok {
		return subject, nil
	}
	raw, err := s.read(ctx, e.descriptor)
	if err != nil {
		return v1.Hash{}, err
	}
	s.subjects[e.Digest] = subjectOf(raw)
	return s.subjects[e.Digest], nil
}

// subjectOf returns the digest in a document's subject; zero if it has none.
func subjectOf(raw []byte) v1.Hash {
	if checkDocument(raw, maxManifestSize) != nil {
		return v1.Hash{}
	}
	doc, err := parseMap(raw)
	if err != nil || doc.get("subject") == nil {
		return v1.Hash{}
	}
	d, err := requiredDescriptor(doc, "subject")
	if err != nil {
		return v1.Hash{}
	}
	return d.Digest
}

func (s *Selection) read(ctx context.Context, d descriptor) ([]byte, error) {
	rc, err := s.tree.store.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Digest, err)
	}
	return readDocument(rc, d.Digest, d.Size, maxManifestSize)
}

// Invalidated lists what names a digest that results replace, in the index and
// in the source's registry: attestations, signatures, and whatever else refers
// to it.
func (s *Selection) Invalidated(ctx context.Context, results []*Image) ([]Referrer, error) {
	changed := s.changed(results)
	if len(changed) == 0 {
		return nil, nil
	}
	var list []Referrer
	var failed error
	s.tree.all(func(e entry) {
		if e.node.kind != attestationNode && e.node.kind != otherNode {
			return
		}
		subject, err := s.subject(ctx, e)
		if err != nil {
			failed = cmp.Or(failed, err)
		}
		if slices.Contains(changed, subject) {
			list = append(list, Referrer{Subject: subject, Digest: e.Digest, Kind: s.kind(ctx, e)})
		}
	})
	if failed != nil {
		return nil, fmt.Errorf("looking for attestations: %w", failed)
	}
	referrers, err := s.source.Referrers(ctx, changed)
	if err != nil {
		return list, fmt.Errorf("looking for signatures and attestations: %w", err)
	}
	for _, r := range referrers {
		if !slices.ContainsFunc(list, func(l Referrer) bool { return l.Digest == r.Digest }) {
			list = append(list, r)
		}
	}
	return list, nil
}

// kind words what an attestation beside an image holds, as far as it tells.
func (s *Selection) kind(ctx context.Context, e entry) string {
	kind := cmp.Or(e.ArtifactType, "attestation")
	if e.node.absent {
		return kind
	}
	raw, err := s.read(ctx, e.descriptor)
	if err != nil {
		return kind
	}
	var predicates []string
	blobs, _ := references(raw)
	for _, b := range blobs {
		if p := b.Annotations[predicateType]; p != "" && !slices.Contains(predicates, p) {
			predicates = append(predicates, p)
		}
	}
	if len(predicates) > 0 {
		kind = "attestation of " + strings.Join(predicates, " and ")
	}
	return kind
}
