package image

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	clitypes "github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// credentials finds what to log in to a repository's registry with: nothing
// where Options.Credentials refuses the host.
func (o Options) credentials(ctx context.Context, repo name.Repository) (authn.Authenticator, error) {
	if o.Credentials != nil && !o.Credentials(repo.RegistryStr()) {
		return authn.Anonymous, nil
	}
	return authn.Resolve(ctx, o.keychain(), repo)
}

// keychain finds credentials: in Options.AuthFile alone if that is set, else
// in REGISTRY_AUTH_FILE and then where docker and podman keep them.
func (o Options) keychain() authn.Keychain {
	if o.AuthFile != "" {
		return authFile(o.AuthFile)
	}
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		if _, err := os.Stat(path); err == nil {
			return authn.NewMultiKeychain(authFile(path), authn.DefaultKeychain)
		}
	}
	return authn.DefaultKeychain
}

// authFile is a keychain from one file in the form of docker's config.json,
// credential helpers included.
type authFile string

// Resolve implements authn.Keychain.
func (path authFile) Resolve(target authn.Resource) (authn.Authenticator, error) {
	f, err := os.Open(string(path))
	if err != nil {
		return nil, fmt.Errorf("reading credentials: %w", err)
	}
	defer f.Close()
	cf, err := config.LoadFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading credentials from %q: %w", string(path), err)
	}
	c := entryFor(cf.AuthConfigs, target)
	if c == nil {
		helped, err := cf.GetAuthConfig(registryKey(target))
		if err != nil {
			return nil, fmt.Errorf("reading credentials of %s: %w", target.RegistryStr(), err)
		}
		c = &helped
	}
	c.ServerAddress = ""
	if *c == (clitypes.AuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password, Auth: c.Auth,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	}), nil
}

// registryKey is the name under which docker keeps credentials of a registry.
func registryKey(target authn.Resource) string {
	if target.RegistryStr() == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return target.RegistryStr()
}

// entryFor finds credentials of a repository, of the namespaces above it or of
// the registry, as containers-auth.json(5) has them; nil if there are none.
func entryFor(auths map[string]clitypes.AuthConfig, target authn.Resource) *clitypes.AuthConfig {
	key := target.String()
	if rest, ok := strings.CutPrefix(key, name.DefaultRegistry); ok {
		key = "docker.io" + rest
	}
	for {
		if c, ok := auths[key]; ok {
			return &c
		}
		i := strings.LastIndexByte(key, '/')
		if i < 0 {
			return nil
		}
		key = key[:i]
	}
}
