package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Bounds on what a registry may list for one image.
const (
	maxReferrerPages = 32
	maxReferrers     = 1000
)

// Referrer is a manifest that says something about another one, such as a
// signature, and that goes stale when that one is replaced.
type Referrer struct {
	// Subject is the manifest that it is about, Digest its own.
	Subject, Digest v1.Hash
	// Kind is its artifact type, or the media type of its config where it has
	// none; for cosign's tags "cosign signature", "cosign attestation" or
	// "cosign SBOM". It is text of the registry's.
	Kind string
}

// cosignTags are the ends of the tags that cosign gives to what it stores, see
// https://github.com/sigstore/cosign/blob/v2.4.1/specs/SIGNATURE_SPEC.md
var cosignTags = []struct{ suffix, kind string }{
	{".sig", "cosign signature"}, {".att", "cosign attestation"}, {".sbom", "cosign SBOM"},
}

// Referrers finds what the source's registry holds about some manifests, in the
// order of subject, kind and digest: by the referrers API or the tag that
// stands in for it, and by cosign's tags. Other sources know of none.
func (s *Source) Referrers(ctx context.Context, subjects []v1.Hash) ([]Referrer, error) {
	if s.registry == nil {
		return nil, nil
	}
	found := make([][]Referrer, len(subjects))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(max(s.registry.client.o.Jobs, 0), defaultJobs))
	for i, h := range subjects {
		g.Go(func() (err error) {
			if found[i], err = s.registry.referrers(ctx, h); err != nil {
				return fmt.Errorf("looking for what refers to %s: %w", h, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, s.registry.explain(err)
	}
	all := slices.Concat(found...)
	slices.SortFunc(all, func(a, b Referrer) int {
		return cmp.Or(cmp.Compare(a.Subject.String(), b.Subject.String()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Digest.String(), b.Digest.String()))
	})
	return slices.Compact(all), nil
}

// referrers finds what refers to one manifest.
func (s *registryStore) referrers(ctx context.Context, h v1.Hash) ([]Referrer, error) {
	c := s.client
	tag := h.Algorithm + "-" + h.Hex
	list, err := c.listReferrers(ctx, h)
	if noReferrersAPI(err) {
		list, err = c.taggedReferrers(ctx, tag)
	}
	if err != nil {
		return nil, err
	}
	var found []Referrer
	for _, d := range list {
		kind, err := c.kindOf(ctx, d)
		if err != nil {
			return nil, err
		}
		found = append(found, Referrer{Subject: h, Digest: d.Digest, Kind: kind})
	}
	for _, t := range cosignTags {
		digest, ok, err := c.headManifest(ctx, tag+t.suffix)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, Referrer{Subject: h, Digest: digest, Kind: t.kind})
		}
	}
	return found, nil
}

// errNoReferrers tells that an answer of the referrers API is no index.
var errNoReferrers = errors.New("the registry answers with no list of referrers")

// noReferrersAPI tells that a registry is older than the referrers API.
func noReferrersAPI(err error) bool {
	return errors.Is(err, errNoReferrers) || slices.Contains([]int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed}, statusOf(err))
}

// listReferrers asks the referrers API, page after page.
func (c *client) listReferrers(ctx context.Context, h v1.Hash) ([]descriptor, error) {
	var all []descriptor
	next := c.url("referrers/" + h.String())
	for range maxReferrerPages {
		page, after, err := c.referrersPage(ctx, next)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(all) > maxReferrers {
			return nil, fmt.Errorf("more than %d referrers", maxReferrers)
		}
		if after == nil {
			return all, nil
		}
		next = after
	}
	return nil, fmt.Errorf("more than %d pages of referrers", maxReferrerPages)
}

// referrersPage reads one page and where the next one is, nil if nowhere.
func (c *client) referrersPage(ctx context.Context, at *url.URL) (page []descriptor, next *url.URL, err error) {
	err = c.o.newPace().retry(ctx, func() error {
		resp, err := c.send(ctx, request{
			method: http.MethodGet, url: at, header: map[string]string{"Accept": string(types.OCIImageIndex)}, accept: []int{http.StatusOK},
		})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		// A server that knows no referrers may have a page for every path.
		if manifestType(resp.Header.Get("Content-Type")) != types.OCIImageIndex {
			return final(errNoReferrers)
		}
		raw, err := readBounded(resp)
		if err != nil {
			return redact(err, c.hiding())
		}
		index, err := parseIndex(raw)
		if err != nil {
			return final(fmt.Errorf("reading a list of referrers: %w", err))
		}
		page = index.Manifests
		next, err = c.nextPage(resp)
		return err
	})
	return page, next, err
}

// nextPage reads the Link header of RFC 8288. A list goes on where it began: at
// the same host.
func (c *client) nextPage(resp *http.Response) (*url.URL, error) {
	for _, link := range strings.Split(strings.Join(resp.Header.Values("Link"), ","), "<")[1:] {
		target, params, _ := strings.Cut(link, ">")
		if !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
			continue
		}
		u, err := url.Parse(target)
		if err != nil {
			return nil, final(errors.New("the list of referrers goes on at what is no URL"))
		}
		if u = resp.Request.URL.ResolveReference(u); u.Host != resp.Request.URL.Host {
			return nil, final(fmt.Errorf("the list of referrers goes on at another host, %q", u.Host))
		}
		return u, nil
	}
	return nil, nil
}

// taggedReferrers reads the index by which clients keep referrers in a registry
// without the API; none where there is no such tag.
func (c *client) taggedReferrers(ctx context.Context, tag string) ([]descriptor, error) {
	m, err := c.getManifest(ctx, tag, "")
	if statusOf(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := parseIndex(m.raw)
	if err != nil {
		return nil, fmt.Errorf("reading a list of referrers: %w", err)
	}
	if len(index.Manifests) > maxReferrers {
		return nil, fmt.Errorf("more than %d referrers", maxReferrers)
	}
	return index.Manifests, nil
}

// kindOf is what a referrer calls itself. Its manifest is read where the list
// does not say; the list's media type counts where that is gone or no JSON.
func (c *client) kindOf(ctx context.Context, d descriptor) (string, error) {
	if d.ArtifactType != "" {
		return d.ArtifactType, nil
	}
	m, err := c.getManifest(ctx, d.Digest.String(), d.MediaType)
	if statusOf(err) == http.StatusNotFound {
		return string(d.MediaType), nil
	}
	if err != nil {
		return "", err
	}
	return cmp.Or(artifactKind(m.raw), string(d.MediaType)), nil
}

// artifactKind is the artifact type that a manifest states, or else its config's
// media type; empty if it has neither.
func artifactKind(raw []byte) string {
	doc, err := parseDocument(bytes.TrimSpace(raw))
	if err != nil {
		return ""
	}
	if t, err := doc.text("artifactType"); err != nil || t != "" {
		return t
	}
	config, err := requiredDescriptor(doc, "config")
	if err != nil {
		return ""
	}
	return string(config.MediaType)
}
