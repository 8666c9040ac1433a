package image

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// mountSources are the other repositories of a registry that hold some of the
// blobs, in the order of their names.
func mountSources(blobs []Layer, repo name.Repository) []name.Repository {
	var sources []name.Repository
	for _, b := range blobs {
		for _, o := range b.origins {
			if o.repo.RegistryStr() == repo.RegistryStr() && o.repo != repo && !slices.Contains(sources, o.repo) {
				sources = append(sources, o.repo)
			}
		}
	}
	slices.SortFunc(sources, func(a, b name.Repository) int { return cmp.Compare(a.String(), b.String()) })
	return sources
}

// pushDocument pushes all that a document refers to: the blobs of the whole
// tree, at most jobs at a time, then the documents below it, by digest. The
// document itself is for the caller to put, under the name it is to have.
func pushDocument(ctx context.Context, c *client, doc *document, jobs int) error {
	if err := pushBlobs(ctx, c, doc.allBlobs(), jobs); err != nil {
		return err
	}
	for _, child := range doc.descendants() {
		_, found, err := c.headManifest(ctx, child.digest.String())
		if err == nil && !found {
			err = c.putManifest(ctx, child.digest.String(), child)
		}
		if err != nil {
			return fmt.Errorf("writing manifest %s: %w", child.digest, err)
		}
	}
	return nil
}

// Pushed remembers which blobs a registry has taken, so that Write does not ask for
// what Upload has put there. The zero value is empty.
type Pushed struct {
	mu    sync.Mutex
	blobs map[string]bool
}

func (p *Pushed) has(repo name.Repository, h v1.Hash) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blobs[repo.Name()+"@"+h.String()]
}

func (p *Pushed) add(repo name.Repository, h v1.Hash) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blobs == nil {
		p.blobs = map[string]bool{}
	}
	p.blobs[repo.Name()+"@"+h.String()] = true
}

// pushBlobs makes sure that a repository has some blobs, at most jobs at a time.
func pushBlobs(ctx context.Context, c *client, blobs []Layer, jobs int) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(max(jobs, 0), defaultJobs))
	for _, b := range blobs {
		g.Go(func() error {
			if c.o.Pushed.has(c.repo, b.Digest) {
				return nil
			}
			if err := c.putBlob(ctx, b); err != nil {
				return fmt.Errorf("writing blob %s: %w", b.Digest, err)
			}
			c.o.Pushed.add(c.repo, b.Digest)
			return nil
		})
	}
	return g.Wait()
}

// expect checks that a tag has not moved since it was read.
func (c *client) expect(ctx context.Context, tag string, want v1.Hash) error {
	now, found, err := c.headManifest(ctx, tag)
	switch {
	case err != nil:
		return fmt.Errorf("looking at the tag: %w", err)
	case !found:
		return fmt.Errorf("the tag moved: it was %s and is gone now", want)
	case now != want:
		return fmt.Errorf("the tag moved: it was %s and is %s now", want, now)
	}
	return nil
}
