package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Bounds on what an engine's answers may have, in bytes.
const (
	maxEngineAnswer = 16 << 20
	maxMessage      = 64 << 10
)

// engine is a client of the few requests of the Docker Engine API that images
// need, see https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Image
type engine struct {
	at     *endpoint
	client *http.Client
	// base is the start of URLs, with the version of the API.
	base string
}

// apiVersion matches the version of the API that an engine says it has.
var apiVersion = regexp.MustCompile(`^1\.[0-9]{1,4}$`)

// openEngine connects to the engine. It speaks the engine's own version of the
// API: the requests and fields used here are the same in all of them.
func openEngine(ctx context.Context) (*engine, error) {
	at, err := findEngine()
	if err != nil {
		return nil, err
	}
	e := &engine{at: at, base: at.base, client: &http.Client{
		Transport:     at.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	resp, err := e.do(ctx, http.MethodGet, "/_ping", nil, nil)
	if err != nil {
		e.close()
		return nil, err
	}
	defer resp.Body.Close()
	if v := resp.Header.Get("Api-Version"); apiVersion.MatchString(v) {
		e.base += "/v" + v
	}
	return e, nil
}

// close lets go of idle connections.
func (e *engine) close() { e.client.CloseIdleConnections() }

// engineError is an answer that is not a success.
type engineError struct {
	status  int
	message string
}

func (e *engineError) Error() string {
	return fmt.Sprintf("the engine answers %d: %.1000q", e.status, e.message)
}

// do sends a request. Answers other than success are an *engineError; the body
// of another answer is the caller's to close.
func (e *engine) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	target := e.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("asking the engine: %w", withoutURL(err))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, e.explain(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if err != nil {
		return nil, e.explain(ctx, err)
	}
	var said struct{ Message string }
	if json.Unmarshal(raw, &said) != nil || said.Message == "" {
		said.Message = string(bytes.TrimSpace(raw))
	}
	return nil, e.explain(ctx, &engineError{resp.StatusCode, said.Message})
}

// withoutURL returns what a client's error wraps: the URL has nothing that the
// message does not say, and may have a password.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// explain adds the remedy to errors that have one.
func (e *engine) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = withoutURL(err)
	var dial *net.OpError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var answer *engineError
	hint := ""
	switch {
	case errors.As(err, &answer):
		if strings.Contains(answer.message, "HTTP request to an HTTPS server") {
			hint = "the engine wants TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
		} else {
			return err
		}
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("the socket is open to root and to the group docker: usermod -aG docker USER, and log in again; %s", e.at.said)
	case errors.As(err, &authority), errors.As(err, &hostname):
		hint = "DOCKER_CERT_PATH is the folder with the engine's ca.pem"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		hint = "the engine has no TLS: unset DOCKER_TLS_VERIFY and DOCKER_TLS"
	case errors.As(err, &dial) && dial.Op == "dial":
		hint = fmt.Sprintf("is the engine running? %s", e.at.said)
	case strings.HasPrefix(err.Error(), "command ["): // what ssh printed
		return &HintError{Err: fmt.Errorf("asking the engine: %.2000q", err.Error()), Hint: fmt.Sprintf("try ssh by itself first; %s", e.at.said)}
	}
	if hint == "" {
		return fmt.Errorf("asking the engine: %w", err)
	}
	return &HintError{Err: fmt.Errorf("asking the engine: %w", err), Hint: hint}
}

// inspected is what is used of an image's description.
type inspected struct {
	ID       string `json:"Id"`
	RepoTags []string
}

// inspect describes the image that a name or ID means to the engine.
func (e *engine) inspect(ctx context.Context, name string) (inspected, error) {
	resp, err := e.do(ctx, http.MethodGet, "/images/"+name+"/json", nil, nil)
	if err != nil {
		return inspected{}, absentImage(name, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxEngineAnswer+1))
	if err != nil {
		return inspected{}, e.explain(ctx, err)
	}
	var info inspected
	if len(raw) > maxEngineAnswer {
		return info, fmt.Errorf("reading the engine's description of %q: more than %d bytes", name, maxEngineAnswer)
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return info, fmt.Errorf("reading the engine's description of %q: %w", name, err)
	}
	if id, err := v1.NewHash(info.ID); err != nil || id.Algorithm != "sha256" {
		return info, fmt.Errorf("reading the engine's description of %q: %.100q is no ID of an image", name, info.ID)
	}
	return info, nil
}

// absentImage words the answer to a request for an image that is not there.
func absentImage(name string, err error) error {
	var answer *engineError
	if errors.As(err, &answer) && answer.status == http.StatusNotFound {
		return &HintError{Err: fmt.Errorf("the engine has no image %q", name), Hint: "docker images lists what it has"}
	}
	return err
}

// save returns the archive of an image as the engine makes it, and the tags
// that it was asked for: one, or none for an ID. A name without a tag would
// mean all of its tags to an engine.
func (e *engine) save(ctx context.Context, name string) (archive io.ReadCloser, id string, tags []string, err error) {
	info, err := e.inspect(ctx, name)
	if err != nil {
		return nil, "", nil, err
	}
	tag, isTag := engineTag(name)
	if mayBeID(name) {
		// The engine knows whether hexadecimal digits are a name.
		isTag = slices.ContainsFunc(info.RepoTags, func(t string) bool { return sameTag(t, tag) })
	}
	if isTag {
		name, tags = tag, []string{tag}
	} else {
		name = info.ID
	}
	resp, err := e.do(ctx, http.MethodGet, "/images/"+name+"/get", nil, nil)
	if err != nil {
		return nil, "", nil, absentImage(name, err)
	}
	return resp.Body, info.ID, tags, nil
}

// errAnswered ends the writing of an archive whose end nobody reads.
var errAnswered = errors.New("the engine has answered")

// load sends what fill writes as an archive to load, and returns the ID that
// the engine tells; empty if it tells none. An error of fill breaks the request
// off, so that the engine gets no whole archive and loads nothing. An engine
// that has all of it goes on loading when ctx ends.
func (e *engine) load(ctx context.Context, fill func(context.Context, io.Writer) error) (id string, err error) {
	filling, stop := context.WithCancelCause(ctx)
	r, w := io.Pipe()
	filled := make(chan error, 1)
	go func() {
		err := fill(filling, w)
		w.CloseWithError(err)
		filled <- err
	}()
	resp, err := e.do(ctx, http.MethodPost, "/images/load", url.Values{"quiet": {"1"}}, r)
	if err == nil {
		id, err = loadedID(resp.Body)
		resp.Body.Close()
	}
	// What the engine has not read by now it does not want: fill ends at once.
	r.CloseWithError(errAnswered)
	stop(errAnswered)
	failed := <-filled
	stopped := errors.Is(failed, errAnswered) || errors.Is(failed, io.ErrClosedPipe) || errors.Is(failed, context.Canceled)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case failed != nil && !stopped:
		return "", failed
	case err != nil:
		return "", fmt.Errorf("loading: %w", err)
	case failed != nil:
		return "", errors.New("loading: the engine answers before it has read the image")
	}
	return id, nil
}

// loadedText is how an engine tells the ID of an image that came without tags.
var loadedText = regexp.MustCompile(`^Loaded image(?: ID)?: (sha256:[0-9a-f]{64})\s*$`)

// loadedID reads the answer to a load, a stream of JSON objects, up to the
// error that one of them tells.
func loadedID(r io.Reader) (id string, err error) {
	limited := &io.LimitedReader{R: r, N: maxEngineAnswer}
	dec := json.NewDecoder(limited)
	for {
		var m struct {
			Stream, Error string
			ErrorDetail   struct{ Message string }
		}
		err := dec.Decode(&m)
		switch {
		case limited.N == 0:
			return "", fmt.Errorf("the engine's answer has more than %d bytes", maxEngineAnswer)
		case err == io.EOF:
			return id, nil
		case err != nil:
			return "", fmt.Errorf("reading the engine's answer: %w", err)
		case m.ErrorDetail.Message != "" || m.Error != "":
			return "", fmt.Errorf("the engine says %.1000q", cmp.Or(m.ErrorDetail.Message, m.Error))
		}
		if text := loadedText.FindStringSubmatch(m.Stream); text != nil {
			id = text[1]
		}
	}
}

// tag gives a further tag to an image.
func (e *engine) tag(ctx context.Context, name, tag string) error {
	i := strings.LastIndexByte(tag, ':')
	resp, err := e.do(ctx, http.MethodPost, "/images/"+name+"/tag", url.Values{"repo": {tag[:i]}, "tag": {tag[i+1:]}}, nil)
	if err != nil {
		return fmt.Errorf("tagging: %w", err)
	}
	return resp.Body.Close()
}

// untag takes a tag away, and with its last tag the image.
func (e *engine) untag(ctx context.Context, tag string) error {
	resp, err := e.do(ctx, http.MethodDelete, "/images/"+tag, url.Values{"noprune": {"1"}}, nil)
	if err != nil {
		return fmt.Errorf("untagging %q: %w", tag, err)
	}
	return resp.Body.Close()
}
