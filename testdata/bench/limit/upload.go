package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// upload streams a blob to a registry, see "Pushing a blob in chunks" of the OCI
// distribution specification, as one chunk without a length. What it returns ends the
// upload once the digest is known.
func upload(ctx context.Context, target string, body io.Reader) (func(digest string) error, error) {
	host, name, _, err := splitName(target)
	if err != nil {
		return nil, err
	}
	place, err := send(ctx, http.MethodPost, "http://"+host+"/v2/"+name+"/blobs/uploads/", nil, http.StatusAccepted)
	if err != nil {
		return nil, fmt.Errorf("starting the upload: %w", err)
	}
	if place, err = send(ctx, http.MethodPatch, place, body, http.StatusAccepted); err != nil {
		return nil, fmt.Errorf("uploading: %w", err)
	}
	return func(digest string) error {
		u, err := url.Parse(place)
		if err != nil {
			return fmt.Errorf("reading the registry's answer: %w", err)
		}
		q := u.Query()
		q.Set("digest", digest)
		u.RawQuery = q.Encode()
		if _, err := send(context.WithoutCancel(ctx), http.MethodPut, u.String(), nil, http.StatusCreated); err != nil {
			return fmt.Errorf("ending the upload: %w", err)
		}
		return nil
	}, nil
}

// send makes a request and returns the place that the answer names.
func send(ctx context.Context, method, to string, body io.Reader, want int) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		return "", fmt.Errorf("the registry answers %s", resp.Status)
	}
	place, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		return "", err
	}
	return place.String(), nil
}
