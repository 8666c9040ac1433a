package image

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Referrer is a document about another one.
type Referrer struct {
	// Subject is the digest that it is about, Digest its own.
	Subject, Digest v1.Hash
	// Kind says what it is: an artifact type, or words of this package.
	Kind string
}

// Referrers is stub pending.
func (s *Source) Referrers(context.Context, []v1.Hash) ([]Referrer, error) { return nil, nil }
