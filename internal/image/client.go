package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// acceptedManifests are the documents that a registry is asked for.
var acceptedManifests = []types.MediaType{
	types.OCIManifestSchema1, types.DockerManifestSchema2, types.OCIImageIndex, types.DockerManifestList,
	types.DockerManifestSchema1Signed, types.DockerManifestSchema1,
}

// client asks for one repository of a registry by the distribution API,
// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md. It
// logs in once and is safe for use by several goroutines.
type client struct {
	repo   name.Repository
	o      Options
	bottom http.RoundTripper
	action string // the scope: pull, or push,pull

	mu sync.Mutex
	// sources are repositories whose blobs may be mounted.
	sources []name.Repository
	// session is nil until the registry let us in.
	session *http.Client
	secrets []string
}

// newClient prepares a client for reading, or for writing with action
// transport.PushScope, where blobs of some sources can be mounted.
func newClient(repo name.Repository, action string, o Options, sources ...name.Repository) (*client, error) {
	rt, err := o.roundTripper()
	if err != nil {
		return nil, err
	}
	return &client{repo: repo, o: o, bottom: rt, action: action, sources: sources}, nil
}

// connect logs in to the registry.
func (c *client) connect(ctx context.Context) error {
	return c.o.newPace().retry(ctx, func() error {
		_, err := c.open(ctx)
		return err
	})
}

// open returns the HTTP client of the session, which it begins if there is
// none.
func (c *client) open(ctx context.Context) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		return c.session, nil
	}
	auth, err := c.o.credentials(ctx, c.repo)
	if err != nil {
		return nil, final(err)
	}
	if a, err := authn.Authorization(ctx, auth); err == nil {
		c.secrets = secretsOf(a)
	}
	rt, err := c.logIn(ctx, auth)
	// Some token servers refuse all scopes for one that they do not grant.
	if len(c.sources) > 0 && slices.Contains(denials, statusOf(err)) {
		c.sources = nil
		rt, err = c.logIn(ctx, auth)
	}
	if err != nil {
		return nil, contactError{redact(err, c.secrets)}
	}
	c.session = &http.Client{Transport: rt, CheckRedirect: checkRedirect}
	return c.session, nil
}

// logIn gets a token for the repository and for those to mount from.
func (c *client) logIn(ctx context.Context, auth authn.Authenticator) (http.RoundTripper, error) {
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := c.o.pacing.newAlarm(c.o.stallTimeout(), func() { cancel(c.stalled()) })
	defer limit.Stop()
	scopes := []string{c.repo.Scope(c.action)}
	for _, s := range c.sources {
		scopes = append(scopes, s.Scope(transport.PullScope))
	}
	watched := &certificates{inner: c.bottom}
	rt, err := transport.NewWithContext(attempt, c.repo.Registry, auth, watched, scopes)
	if refused := watched.err(); err != nil && refused != nil {
		// A loopback host was then asked without TLS, which says nothing.
		err = refused
	}
	return rt, causeOf(attempt, err)
}

// forbid ends mounting from a repository: its scope might keep the session
// from getting another token.
func (c *client) forbid(source name.Repository) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.sources, source); i >= 0 {
		c.sources = slices.Delete(slices.Clone(c.sources), i, i+1)
		c.session = nil
	}
}

// mayMount tells whether blobs of a repository can be mounted.
func (c *client) mayMount(source name.Repository) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.sources, source)
}

// hiding returns the secrets that no error may have.
func (c *client) hiding() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secrets
}

// stalled is the error about a connection on which nothing moves.
func (c *client) stalled() error {
	return fmt.Errorf("no byte came or went for %s", c.o.stallTimeout())
}

// url is the address of a part of the repository.
func (c *client) url(path string, query ...string) *url.URL {
	u := &url.URL{Scheme: c.repo.Scheme(), Host: c.repo.RegistryStr(), Path: "/v2/" + c.repo.RepositoryStr() + "/" + path}
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	u.RawQuery = values.Encode()
	return u
}

// request is what one attempt sends.
type request struct {
	method string
	url    *url.URL
	header map[string]string
	// body is sent again as often as need be, stream once.
	body   []byte
	stream *streamBody
	// accept are the statuses that are no error.
	accept []int
}

// send sends a request once. The answer's body ends in an error when no byte
// comes for Options.StallTimeout.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	session, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	attempt, cancel := context.WithCancelCause(ctx)
	stall := c.o.pacing.newAlarm(c.o.stallTimeout(), func() { cancel(c.stalled()) })
	if r.method == http.MethodPut {
		stall.Stop() // a registry may take its time to put a blob together
	}
	end := func() {
		stall.Stop()
		cancel(nil)
	}
	req, err := r.build(attempt)
	if err != nil {
		end()
		return nil, final(redact(err, nil))
	}
	if r.stream != nil {
		r.stream.stall, r.stream.timeout = stall, c.o.stallTimeout()
	}
	resp, err := session.Do(req)
	stall.Stop()
	if err != nil {
		err = causeOf(attempt, err)
		end()
		return nil, redact(err, c.hiding())
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, ctx: attempt, stall: stall, timeout: c.o.stallTimeout(), end: end}
	if !slices.Contains(r.accept, resp.StatusCode) {
		defer resp.Body.Close()
		return nil, answerError(resp, c.hiding(), time.Now())
	}
	return resp, nil
}

// build returns the request in net/http's form.
func (r request) build(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	switch {
	case r.stream != nil:
		body = r.stream
	case r.body != nil:
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url.String(), body)
	if err != nil {
		return nil, err
	}
	if r.stream != nil {
		req.ContentLength = r.stream.size
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	return req, nil
}

// causeOf is the reason for which an attempt was given up, or else its error.
func causeOf(attempt context.Context, err error) error {
	if err != nil && attempt.Err() != nil {
		return context.Cause(attempt)
	}
	return err
}

// watchedBody is the body of an answer that must not stall.
type watchedBody struct {
	io.ReadCloser
	ctx     context.Context
	stall   alarm
	timeout time.Duration
	end     func()
}

// Read implements io.Reader. Only the connection is timed, not the reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.stall.Reset(b.timeout)
	n, err := b.ReadCloser.Read(p)
	b.stall.Stop()
	if err != nil && err != io.EOF {
		err = causeOf(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// finish reads the rest of a small answer, so that its connection can be used
// again, and closes it.
func finish(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the answer has been understood
	resp.Body.Close()
}

// storedManifest is a manifest or index as a registry returns it.
type storedManifest struct {
	raw       []byte
	digest    v1.Hash
	mediaType types.MediaType // empty where the registry knows none
}

// getManifest reads a manifest or index by tag or digest. claimed is the media
// type that its descriptor says, empty if there is none.
func (c *client) getManifest(ctx context.Context, reference string, claimed types.MediaType) (storedManifest, error) {
	var m storedManifest
	err := c.o.newPace().retry(ctx, func() (err error) {
		m, err = c.readManifest(ctx, reference, claimed)
		return err
	})
	return m, err
}

func (c *client) readManifest(ctx context.Context, reference string, claimed types.MediaType) (storedManifest, error) {
	var m storedManifest
	resp, err := c.send(ctx, request{
		method: http.MethodGet, url: c.url("manifests/" + reference), header: accepting(claimed), accept: []int{http.StatusOK},
	})
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	m.raw, err = readBounded(resp)
	if err != nil {
		return m, redact(err, c.hiding())
	}
	m.mediaType = manifestType(resp.Header.Get("Content-Type"))
	want, known := contentDigest(resp)
	if h, err := v1.NewHash(reference); err == nil {
		want, known = h, true
	}
	algorithm := "sha256"
	if known {
		algorithm = want.Algorithm
	}
	if m.digest, err = hashAs(algorithm, m.raw); err != nil {
		return m, final(err)
	}
	if known && m.digest != want {
		return m, final(fmt.Errorf("the content of %s has digest %s, which does not match %s", reference, m.digest, want))
	}
	return m, nil
}

// readBounded reads a document of an answer.
func readBounded(resp *http.Response) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifestSize+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifestSize {
		return nil, final(fmt.Errorf("a manifest of more than %d bytes", int64(maxManifestSize)))
	}
	return raw, nil
}

// accepting is the Accept header for manifests and indexes.
func accepting(claimed types.MediaType) map[string]string {
	var list []string
	for _, t := range acceptedManifests {
		list = append(list, string(t))
	}
	// What a document claims is only sent on where it is a media type.
	if t, _, err := mime.ParseMediaType(string(claimed)); err == nil && !slices.Contains(list, t) {
		list = append(list, t)
	}
	return map[string]string{"Accept": strings.Join(list, ", ")}
}

// contentDigest is the digest that a registry gives for an answer.
func contentDigest(resp *http.Response) (v1.Hash, bool) {
	h, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	return h, err == nil
}

// manifestType strips parameters from a Content-Type, and answers of a server
// that knows no manifest types: the document's own mediaType field counts then.
func manifestType(contentType string) types.MediaType {
	t, _, err := mime.ParseMediaType(contentType)
	if mt := types.MediaType(t); err == nil && (mt.IsImage() || mt.IsIndex() || mt.IsSchema1()) {
		return mt
	}
	return ""
}

// errRefused tells that a registry does not answer such requests.
var errRefused = errors.New("the registry refuses HEAD")

// headManifest returns the digest of what a tag or digest names; found is false
// where it names nothing.
func (c *client) headManifest(ctx context.Context, reference string) (digest v1.Hash, found bool, err error) {
	err = c.o.newPace().retry(ctx, func() error {
		digest, found, err = c.lookManifest(ctx, reference)
		return err
	})
	if !errors.Is(err, errRefused) {
		return digest, found, err
	}
	m, err := c.getManifest(ctx, reference, "")
	if statusOf(err) == http.StatusNotFound {
		return v1.Hash{}, false, nil
	}
	return m.digest, err == nil, err
}

func (c *client) lookManifest(ctx context.Context, reference string) (v1.Hash, bool, error) {
	resp, err := c.send(ctx, request{
		method: http.MethodHead, url: c.url("manifests/" + reference), header: accepting(""),
		accept: []int{http.StatusOK, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented},
	})
	if err != nil {
		return v1.Hash{}, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return v1.Hash{}, false, nil
	}
	if resp.StatusCode == http.StatusOK {
		if h, err := v1.NewHash(reference); err == nil {
			return h, true, nil
		}
		if h, ok := contentDigest(resp); ok {
			return h, true, nil
		}
	}
	return v1.Hash{}, false, final(errRefused)
}

// putManifest stores a document under a tag or by its digest.
func (c *client) putManifest(ctx context.Context, reference string, doc *document) error {
	return c.o.newPace().retry(ctx, func() error {
		resp, err := c.send(ctx, request{
			method: http.MethodPut, url: c.url("manifests/" + reference), body: doc.raw,
			header: map[string]string{"Content-Type": string(doc.mediaType)},
			accept: []int{http.StatusOK, http.StatusCreated, http.StatusAccepted},
		})
		if err != nil {
			return err
		}
		finish(resp)
		return nil
	})
}

// hasBlob asks once whether the repository has a blob. Where the registry does
// not say, it is taken for absent.
func (c *client) hasBlob(ctx context.Context, h v1.Hash) (bool, error) {
	resp, err := c.send(ctx, request{
		method: http.MethodHead, url: c.url("blobs/" + h.String()),
		accept: []int{http.StatusOK, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented},
	})
	var status *transport.Error
	if errors.As(err, &status) && !retryable(err) && status.Request != nil && status.Request.URL.Host != c.repo.RegistryStr() {
		return false, nil // the store behind the registry takes GET alone
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}
