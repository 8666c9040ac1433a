package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"slim/internal/image"
)

// uploads sends blobs to the target's registry while other images are worked on. It
// names nothing there.
type uploads struct {
	o      *squashOptions
	group  *errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
}

// newUploads returns nil where nothing can be sent ahead, or where a gate may still
// forbid to write.
func newUploads(ctx context.Context, o *squashOptions) *uploads {
	if o.target.Transport != image.Registry || o.dryRun || o.requireSaving > 0 || o.attestations == "fail" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	return &uploads{o: o, group: group, ctx: ctx, cancel: cancel}
}

// add sends layers.
func (u *uploads) add(layers []image.Layer) {
	if u == nil || len(layers) == 0 {
		return
	}
	u.group.Go(func() error { return image.Upload(u.ctx, u.o.target, layers, u.o.imageOptions(nil)) })
}

// wait waits until all is sent.
func (u *uploads) wait() error {
	if u == nil {
		return nil
	}
	return u.group.Wait()
}

// stop ends what is still going on.
func (u *uploads) stop() {
	if u != nil {
		u.cancel()
		_ = u.group.Wait()
	}
}
