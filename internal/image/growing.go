package image

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"
)

// Growing is a layer that is still being made.
type Growing struct {
	// Open returns the blob from its start; a read waits for bytes that are to come.
	Open func(context.Context) (io.ReadCloser, error)
	// Complete waits for the end and describes the layer.
	Complete func(context.Context) (Layer, error)
}

// UploadGrowing puts a layer into the repository of a target while it is made, as
// [Upload] does when it is complete. A layer that is not completed is no error: whoever
// makes it has that, and nothing of it stays at the registry.
func UploadGrowing(ctx context.Context, target Ref, g Growing, o Options) error {
	return withRegistry(ctx, target, o, func(c *client) error { return c.putGrowing(ctx, g) })
}

// putGrowing uploads a blob while it is made. What goes wrong until it is complete is
// mended then: the registry is asked how much it has and gets the rest.
func (c *client) putGrowing(ctx context.Context, g Growing) error {
	u := &upload{c: c, pace: c.o.newPace()}
	sending, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	sent := make(chan error, 1)
	go func() {
		err := u.stream(sending, g)
		// Nothing is made for a registry that does not take it.
		if status := statusOf(err); status == http.StatusUnauthorized || status == http.StatusForbidden {
			stop(err)
		}
		sent <- err
	}()
	l, err := g.Complete(sending)
	if err != nil {
		refused := sending.Err() != nil
		stop(nil)
		<-sent
		u.abandon(ctx)
		if refused {
			return err
		}
		return nil
	}
	// Only now the digest is known: the blob may be there already.
	if found, err := c.hasBlob(ctx, l.Digest); err == nil && found {
		stop(nil)
		<-sent
		u.abandon(ctx)
		c.o.Pushed.add(c.repo, l.Digest)
		return nil
	}
	err = <-sent
	u.layer, u.source = l, blobSource{layer: l}
	defer u.source.close()
	if err == nil {
		u.advance(l.Size)
		u.settled = true
	}
	if err := u.pace.retry(ctx, func() error { return u.run(ctx) }); err != nil {
		return fmt.Errorf("writing blob %s: %w", l.Digest, err)
	}
	c.o.Pushed.add(c.repo, l.Digest)
	return nil
}

// stream begins an upload and sends all of a blob in one request of a length that is
// not known, once.
func (u *upload) stream(ctx context.Context, g Growing) error {
	if _, err := u.begin(ctx); err != nil {
		return err
	}
	rc, err := g.Open(ctx)
	if err != nil {
		return err
	}
	defer rc.Close()
	body := &streamBody{source: &blobSource{rc: rc}, size: -1, left: math.MaxInt64}
	resp, err := u.c.send(ctx, request{
		method: http.MethodPatch, url: u.location, header: map[string]string{"Content-Type": "application/octet-stream"},
		stream: body, accept: []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent},
	})
	left := body.end()
	if err != nil {
		return err
	}
	defer finish(resp)
	if left > 0 {
		return passingError{fmt.Errorf("the registry took only %d bytes", body.source.pos)}
	}
	return u.moveTo(resp)
}

// abandonTimeout is how long a registry may take to forget an upload.
const abandonTimeout = 5 * time.Second

// abandon tells the registry that an upload is not completed, see "Cancel a blob
// upload" of the distribution specification. Without that it forgets it later.
func (u *upload) abandon(ctx context.Context) {
	if u.location == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, abandonTimeout)
	defer cancel()
	resp, err := u.c.send(ctx, request{method: http.MethodDelete, url: u.location, accept: []int{http.StatusNoContent, http.StatusAccepted, http.StatusOK}})
	if err == nil {
		finish(resp)
	}
}
