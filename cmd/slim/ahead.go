package main

import (
	"cmp"
	"context"

	"golang.org/x/sync/errgroup"

	"slim/internal/image"
	"slim/internal/layer"
)

// uploads sends blobs to the target's registry while other images are worked on. It
// names nothing there.
type uploads struct {
	o     *squashOptions
	group errgroup.Group
	// early are layers that are sent while they are written.
	early errgroup.Group
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
	u.early.SetLimit(earlyUploads)
	return u
}

// earlyUploads is how many layers are sent while they are written; where one more
// is begun, it is sent at the end.
const earlyUploads = 4

// growing reports whether layers are sent while they are written: not where the saving
// decides whether they are of use.
func (u *uploads) growing() bool { return u != nil && u.o.minSaving == 0 }

// grow returns what sends a layer while it is written; nil where that cannot be.
func (u *uploads) grow(describe func(*layer.Written) (image.Layer, error)) func(*layer.Growing) {
	if !u.growing() {
		return nil
	}
	opts := u.o.imageOptions(nil)
	opts.Pushed = &u.pushed
	return func(g *layer.Growing) {
		complete := func(ctx context.Context) (l image.Layer, err error) {
			w, err := g.Complete(ctx)
			if err != nil {
				return l, err
			}
			return describe(w)
		}
		u.early.TryGo(func() error {
			return u.failed(image.UploadGrowing(u.ctx, u.o.target, image.Growing{Open: g.Open, Complete: complete}, opts))
		})
	}
}

// failed ends the work for an upload that failed.
func (u *uploads) failed(err error) error {
	if err != nil {
		u.cancel(err)
	}
	return err
}

// add sends layers.
func (u *uploads) add(layers []image.Layer) {
	if u == nil || len(layers) == 0 {
		return
	}
	opts := u.o.imageOptions(nil)
	opts.Pushed = &u.pushed
	u.group.Go(func() error { return u.failed(image.Upload(u.ctx, u.o.target, layers, opts)) })
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
		return u.end()
	}
	return err
}

// wait waits until all is sent, and returns what was.
func (u *uploads) wait() (*image.Pushed, error) {
	if u == nil {
		return nil, nil
	}
	return &u.pushed, u.end()
}

// end waits for all uploads and returns why the first of them failed: the others then
// only end.
func (u *uploads) end() error {
	if cmp.Or(u.group.Wait(), u.early.Wait()) == nil {
		return nil
	}
	return context.Cause(u.ctx)
}

// stop ends what is still going on.
func (u *uploads) stop() {
	if u != nil {
		u.cancel(nil)
		_ = u.end()
	}
}
