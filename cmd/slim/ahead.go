package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"slim/internal/image"
)

// uploads sends blobs to the target's registry while other images are worked on. It
// names nothing there.
type uploads struct {
	o     *squashOptions
	group errgroup.Group
	// ctx ends with the failure of an upload.
	ctx    context.Context
	cancel context.CancelCauseFunc
	parent context.Context
	pushed image.Pushed
}

// newUploads returns nil where nothing can be sent ahead, or where a gate may still
// forbid to write.
func newUploads(ctx context.Context, o *squashOptions) *uploads {
	if o.target.Transport != image.Registry || o.dryRun || o.requireSaving > 0 || o.attestations == "fail" {
		return nil
	}
	u := &uploads{o: o, parent: ctx}
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	return u
}

// add sends layers.
func (u *uploads) add(layers []image.Layer) {
	if u == nil || len(layers) == 0 {
		return
	}
	opts := u.o.imageOptions(nil)
	opts.Pushed = &u.pushed
	u.group.Go(func() error {
		err := image.Upload(u.ctx, u.o.target, layers, opts)
		if err != nil {
			u.cancel(err)
		}
		return err
	})
}

// context ends with ctx, and as soon as an upload fails: a target that refuses is no
// target to work for.
func (u *uploads) context(ctx context.Context) context.Context {
	if u == nil {
		return ctx
	}
	return u.ctx
}

// cause returns the failure of an upload, which ended the work that failed with err.
func (u *uploads) cause(err error) error {
	if u != nil && err != nil && u.ctx.Err() != nil && u.parent.Err() == nil {
		return u.group.Wait()
	}
	return err
}

// wait waits until all is sent, and returns what was.
func (u *uploads) wait() (*image.Pushed, error) {
	if u == nil {
		return nil, nil
	}
	return &u.pushed, u.group.Wait()
}

// stop ends what is still going on.
func (u *uploads) stop() {
	if u != nil {
		u.cancel(nil)
		_ = u.group.Wait()
	}
}
