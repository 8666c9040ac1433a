package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// chunkSize is how much one request sends of a blob, in bytes, where the
	// whole at once did not get through.
	chunkSize = 16 << 20
	// leastChunk is the smallest such part; proxies take 1 MiB by default.
	leastChunk = 512 << 10
	// maxTurns is how often an upload goes on another way without a wait, since
	// its last progress.
	maxTurns = 8
)

// denials are the statuses with which registries and token servers refuse what
// credentials do not allow.
var denials = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden}

// turnError is an answer after which an upload goes on at once in another way.
type turnError struct{ error }

// Unwrap returns the error itself.
func (e turnError) Unwrap() error { return e.error }

// upload is one blob on its way into a repository, see "Pushing blobs" of the
// distribution specification. What the registry has taken stays taken when a
// request breaks.
type upload struct {
	c      *client
	layer  Layer
	pace   *pace
	source blobSource
	// mounts are repositories of the same registry that have the blob.
	mounts []name.Repository
	// waited tells that a mount was tried again.
	waited bool

	// location is where the registry wants the content; nil before that.
	location *url.URL
	// settled tells that offset is what the registry has. Else it is asked.
	settled bool
	offset  int64
	// reached is the largest offset so far.
	reached int64
	// chunk is how much a request sends; 0 for all that is left.
	chunk int64
	// leastChunk is the registry's own bound.
	leastChunk int64
	// small tells that the registry refused larger requests.
	small bool
	// misplaced tells that the last part did not follow what the registry has.
	misplaced bool
}

// putBlob makes sure that the repository has a layer's blob: it is there, it
// comes from another repository of the registry, or it is uploaded.
func (c *client) putBlob(ctx context.Context, l Layer) error {
	u := &upload{c: c, layer: l, pace: c.o.newPace(), source: blobSource{layer: l}}
	for _, o := range l.origins {
		if o.repo.RegistryStr() == c.repo.RegistryStr() && o.repo != c.repo {
			u.mounts = append(u.mounts, o.repo)
		}
	}
	defer u.source.close()
	return u.pace.retry(ctx, func() error { return u.run(ctx) })
}

// run goes on until the blob is there or an error asks for a wait.
func (u *upload) run(ctx context.Context) error {
	for turns := 0; ; turns++ {
		reached := u.reached
		err := u.attempt(ctx)
		if !is[turnError](err) || ctx.Err() != nil {
			return err
		}
		if u.reached > reached {
			turns = 0
		}
		if turns == maxTurns {
			return final(err)
		}
	}
}

// attempt goes on from where the registry is.
func (u *upload) attempt(ctx context.Context) error {
	if !u.settled {
		done, err := u.settle(ctx)
		if done || err != nil {
			return err
		}
	}
	for u.offset < u.layer.Size {
		if err := u.patch(ctx); err != nil {
			return err
		}
	}
	return u.commit(ctx)
}

// settle finds out what the registry has, at first and after every break:
// somebody else may have completed the blob.
func (u *upload) settle(ctx context.Context) (done bool, err error) {
	found, err := u.c.hasBlob(ctx, u.layer.Digest)
	if found || err != nil {
		return found, err
	}
	if u.location != nil {
		if err := u.ask(ctx); err != nil {
			return false, err
		}
	}
	if u.location == nil {
		if done, err = u.begin(ctx); done || err != nil {
			return done, err
		}
	}
	u.settled = true
	return false, nil
}

// ask asks an upload how much of it there is. Where that is not told, the
// upload is given up.
func (u *upload) ask(ctx context.Context) error {
	resp, err := u.c.send(ctx, request{
		method: http.MethodGet, url: u.location, accept: []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	})
	if err != nil {
		if statusOf(err) == 0 || retryable(err) {
			return err
		}
		u.location = nil
		return nil
	}
	defer finish(resp)
	n, ok := parseUploadRange(resp.Header.Get("Range"))
	if !ok || n > u.layer.Size {
		u.location = nil
		return nil
	}
	if err := u.moveTo(resp); err != nil {
		return err
	}
	u.advance(n)
	if u.chunk == 0 {
		u.chunk = max(chunkSize, u.leastChunk)
	}
	return nil
}

// parseUploadRange reads the Range of an upload, "0-LAST", and returns how many
// bytes that are. "0-0" also stands for none, so it is nothing to go by.
func parseUploadRange(s string) (n int64, ok bool) {
	from, to, dash := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	last, err := strconv.ParseInt(to, 10, 64)
	if !dash || from != "0" || err != nil || last <= 0 || last+1 <= 0 {
		return 0, false
	}
	return last + 1, true
}

// advance notes what the registry has.
func (u *upload) advance(offset int64) {
	u.offset = offset
	if offset > u.reached {
		u.reached = offset
		u.misplaced = false
		u.pace.progress()
	}
}

// begin begins an upload, or has the blob mounted.
func (u *upload) begin(ctx context.Context) (done bool, err error) {
	u.offset = 0
	if !u.small {
		u.chunk = 0
	}
	// Whatever keeps a blob from being mounted, it can still be uploaded.
	for ; len(u.mounts) > 0; u.mounts = u.mounts[1:] {
		from := u.mounts[0]
		if !u.c.mayMount(from) {
			continue
		}
		resp, err := u.c.send(ctx, request{
			method: http.MethodPost, url: u.c.url("blobs/uploads/", "mount", u.layer.Digest.String(), "from", from.RepositoryStr()),
			accept: []int{http.StatusCreated, http.StatusAccepted},
		})
		switch {
		case err == nil:
			u.mounts = nil
			finish(resp)
			return resp.StatusCode == http.StatusCreated, u.began(resp)
		case ctx.Err() != nil || retryable(err) && !u.waited:
			u.waited = true
			return false, err
		case slices.Contains(denials, statusOf(err)):
			u.c.forbid(from)
		}
	}
	resp, err := u.c.send(ctx, request{method: http.MethodPost, url: u.c.url("blobs/uploads/"), accept: []int{http.StatusAccepted}})
	if err != nil {
		return false, err
	}
	finish(resp)
	return false, u.began(resp)
}

// began takes the location of a new upload from an answer.
func (u *upload) began(resp *http.Response) error {
	if resp.StatusCode == http.StatusCreated {
		return nil
	}
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		u.leastChunk = n
	}
	if resp.Header.Get("Location") == "" {
		return final(errors.New("the registry began an upload and gave no location"))
	}
	return u.moveTo(resp)
}

// moveTo takes the next location from an answer; without one it stays. A
// location may be relative, and its query is kept as it is.
func (u *upload) moveTo(resp *http.Response) error {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil
	}
	to, err := url.Parse(location)
	if err != nil || resp.Request == nil {
		return final(errors.New("the registry gave a location that is no URL"))
	}
	to = resp.Request.URL.ResolveReference(to)
	if err := checkHop(resp.Request.URL.Hostname(), to.Hostname()); err != nil {
		return err
	}
	u.location = to
	return nil
}

// patch sends the next part: at first the whole, which every registry takes.
func (u *upload) patch(ctx context.Context) error {
	n := u.layer.Size - u.offset
	header := map[string]string{"Content-Type": "application/octet-stream"}
	if u.chunk > 0 {
		n = min(n, max(u.chunk, u.leastChunk))
	}
	if u.chunk > 0 || u.offset > 0 {
		header["Content-Range"] = fmt.Sprintf("%d-%d", u.offset, u.offset+n-1)
	}
	body, err := u.source.from(ctx, u.offset, n)
	if err != nil {
		return err
	}
	resp, err := u.c.send(ctx, request{
		method: http.MethodPatch, url: u.location, header: header, stream: body,
		accept: []int{http.StatusAccepted, http.StatusCreated, http.StatusNoContent, http.StatusTemporaryRedirect, http.StatusPermanentRedirect},
	})
	left := body.end()
	if u.source.err != nil {
		if err == nil {
			resp.Body.Close()
		}
		return final(u.source.err)
	}
	if err != nil {
		return u.broke(err, n)
	}
	defer finish(resp)
	if err := u.moveTo(resp); err != nil {
		return err
	}
	// net/http follows no redirect of a request whose body is a stream.
	if resp.StatusCode >= http.StatusMultipleChoices {
		return turnError{fmt.Errorf("the registry sends an upload from place to place (status %d)", resp.StatusCode)}
	}
	if left > 0 {
		u.settled = false
		return passingError{fmt.Errorf("the registry took only %d of %d bytes", n-left, n)}
	}
	u.took(resp, n)
	return nil
}

// took notes a part of n bytes as taken, or less of it where the registry says
// so.
func (u *upload) took(resp *http.Response, n int64) {
	next := u.offset + n
	if has, ok := parseUploadRange(resp.Header.Get("Range")); ok && u.chunk > 0 && has > u.offset && has < next {
		next = has
	}
	u.advance(next)
}

// broke decides how to go on when a part of n bytes was not taken.
func (u *upload) broke(err error, n int64) error {
	u.settled = false
	resumed := u.offset > 0 || u.chunk > 0 && !u.small
	switch status := statusOf(err); {
	case errors.Is(err, errSpent):
		return turnError{err}
	case status == http.StatusRequestEntityTooLarge:
		return u.shrink(err, n)
	case status == http.StatusRequestedRangeNotSatisfiable && !u.misplaced:
		u.misplaced = true
		return turnError{err}
	case status == http.StatusNotFound || status == http.StatusGone || status == http.StatusRequestedRangeNotSatisfiable,
		hasCode(err, transport.BlobUploadInvalidErrorCode, transport.BlobUploadUnknownErrorCode),
		resumed && status >= 400 && status < 500 && status != http.StatusUnauthorized && status != http.StatusForbidden && !retryable(err):
		u.location, u.misplaced = nil, false
		return passingError{err}
	}
	return err
}

// shrink goes on in smaller parts after n bytes were too many.
func (u *upload) shrink(err error, n int64) error {
	next := min(chunkSize, n/2)
	if next < leastChunk || next < u.leastChunk {
		return err
	}
	u.chunk, u.small = next, true
	return turnError{err}
}

// commit gives the blob its name. The registry compares it with the content.
func (u *upload) commit(ctx context.Context) error {
	at := *u.location
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(u.layer.Digest.String())
	if u.layer.Size == 0 {
		if _, err := u.source.from(ctx, 0, 0); err != nil {
			return err
		}
	}
	resp, err := u.c.send(ctx, request{
		method: http.MethodPut, url: &at, header: map[string]string{"Content-Type": "application/octet-stream"},
		accept: []int{http.StatusCreated, http.StatusOK, http.StatusNoContent},
	})
	if err == nil {
		finish(resp)
		return nil
	}
	u.settled = false
	switch status := statusOf(err); {
	case status == http.StatusNotFound || status == http.StatusGone || status == http.StatusRequestedRangeNotSatisfiable,
		hasCode(err, transport.BlobUploadInvalidErrorCode, transport.BlobUploadUnknownErrorCode, transport.DigestInvalidErrorCode, transport.SizeInvalidErrorCode):
		u.location = nil
		return passingError{err}
	}
	return err
}

// blobSource reads a layer from any offset on and verifies it as a whole.
type blobSource struct {
	layer Layer
	rc    io.ReadCloser // nil: not open
	pos   int64
	err   error
}

// from returns the n bytes from the offset on. The layer is read again from its
// beginning where it is past that.
func (s *blobSource) from(ctx context.Context, offset, n int64) (*streamBody, error) {
	if s.rc == nil || s.pos > offset {
		s.close()
		rc, err := openLayer(ctx, s.layer)
		if err != nil {
			return nil, final(err)
		}
		s.rc, s.pos = rc, 0
	}
	skipped, err := io.CopyN(io.Discard, s.rc, offset-s.pos)
	s.pos += skipped
	if err != nil {
		return nil, final(err)
	}
	b := &streamBody{source: s, size: n, left: n}
	if n == 0 {
		err = final(s.verify())
	}
	return b, err
}

// verify checks, at the end of the layer, that it has its digest.
func (s *blobSource) verify() error {
	if s.pos < s.layer.Size {
		return nil
	}
	_, err := io.Copy(io.Discard, s.rc)
	return err
}

func (s *blobSource) close() {
	if s.rc != nil {
		s.rc.Close()
		s.rc = nil
	}
}

// streamBody is the body of one request. The last bytes of a layer are only
// given away once all of it is known to be right.
type streamBody struct {
	source *blobSource
	// size is the length in bytes, -1 where that is still to be seen.
	size int64
	// stall watches the connection between two reads.
	stall   alarm
	timeout time.Duration

	mu    sync.Mutex
	left  int64
	begun bool
	ended bool
}

// begin tells whether the body is whole.
func (b *streamBody) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.begun
	b.begun = true
	return first
}

// Read implements io.Reader.
func (b *streamBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, errSpent
	}
	b.stall.Stop()
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.source.rc.Read(p[:min(int64(len(p)), b.left)])
	b.source.pos += int64(n)
	if b.size < 0 && n == 0 && err == io.EOF {
		b.left = 0
		return 0, io.EOF
	}
	if err == nil && int64(n) == b.left {
		err = b.source.verify()
	}
	if err != nil {
		// The end belongs after the last byte, not here.
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.source.err = err
		return 0, err
	}
	b.left -= int64(n)
	if b.left > 0 {
		b.stall.Reset(b.timeout)
	}
	return n, nil
}

// Close implements io.Closer. The layer stays open for the next part.
func (b *streamBody) Close() error { return nil }

// end takes the layer back from whoever sends the body, and returns how many
// bytes were not read of it.
func (b *streamBody) end() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	return b.left
}
