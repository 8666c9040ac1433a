package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"slim/internal/image"
)

// TestUploadsFirstFailure tells why the first upload failed, not that another was ended
// for it.
func TestUploadsFirstFailure(t *testing.T) {
	refused := errors.New("refused")
	u := newUploads(t.Context(), &squashOptions{target: image.Ref{Transport: image.Registry}})
	u.group.Go(func() error {
		<-u.ctx.Done()
		return u.failed(fmt.Errorf("writing another: %w", context.Cause(u.ctx)))
	})
	u.early.Go(func() error { return u.failed(refused) })
	if _, err := u.wait(); err != refused {
		t.Errorf("got %v, want %v", err, refused)
	}
}
