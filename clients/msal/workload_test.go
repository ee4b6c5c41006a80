package msal_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A workload identity: the platform keeps an assertion in a file, and replaces it now and
// then. Each request sends the one that is there; this server takes none twice.
func TestWorkloadIdentity(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	sign, err := xoauth2.SignAssertion("workload", key, nil)
	must(t, err)
	w := newWorld(t, idp.Options{Clients: []idp.Client{
		{ID: "workload", Key: key.Public(), RedirectURIs: []string{"http://127.0.0.1/callback"}},
	}})
	file := filepath.Join(t.TempDir(), "marker-file")
	write := func() { // as Kubernetes does it
		assertion, err := sign(t.Context(), w.idp.TenantURL())
		must(t, err)
		must(t, os.WriteFile(file+"~", []byte(assertion+"\n"), 0o600))
		must(t, os.Rename(file+"~", file))
	}
	m := w.machine(t, "workload", msal.Options{ClientAssertion: func(context.Context, string) (string, error) {
		b, err := os.ReadFile(file)
		return strings.TrimSpace(string(b)), err
	}})
	ask := func(resource string) error {
		_, err := m.AppToken(t.Context(), tokencache.Request{Scopes: []string{resource + "/.default"}})
		clean(t, err, "marker")
		return err
	}
	if err := ask("api://first"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	write()
	must(t, ask("api://first"))
	var refused *xoauth2.ProtocolError
	if err := ask("api://second"); !errors.As(err, &refused) || refused.Code != "invalid_client" {
		t.Errorf("the same file again, which the server takes once: %v", err)
	}
	write()
	must(t, ask("api://second"))
	must(t, os.Remove(file))
	must(t, ask("api://first")) // is cached
}

// chain is a credential as azidentity chains them: the first that is there.
type chain []azcore.TokenCredential

func (c chain) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	var all []error
	for _, link := range c {
		tok, err := link.GetToken(ctx, o)
		if err == nil {
			return tok, nil
		}
		all = append(all, err)
	}
	return azcore.AccessToken{}, errors.Join(all...)
}

type link func(policy.TokenRequestOptions) (azcore.AccessToken, error)

func (l link) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return l(o)
}

// A credential of the Azure SDK, such as one of azidentity's for developers, obtains the
// application's own tokens, and the cache keeps them.
func TestChainedCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t, idp.Options{})
	errCLI := errors.New("marker-output of a command line")
	var asked, broken atomic.Int64
	credential := chain{
		link(func(policy.TokenRequestOptions) (azcore.AccessToken, error) { return azcore.AccessToken{}, errCLI }),
		link(func(o policy.TokenRequestOptions) (azcore.AccessToken, error) {
			if asked.Add(1); broken.Load() > 0 {
				return azcore.AccessToken{}, errCLI
			}
			return azcore.AccessToken{Token: "marker-of " + strings.Join(o.Scopes, " "), ExpiresOn: time.Now().Add(time.Hour)}, nil
		}),
	}
	provider := confidential.NewCredFromTokenProvider(
		func(ctx context.Context, p confidential.TokenProviderParameters) (confidential.TokenProviderResult, error) {
			tok, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: p.Scopes, Claims: p.Claims, TenantID: p.TenantID})
			return confidential.TokenProviderResult{
				AccessToken:      tok.Token,
				ExpiresInSeconds: int(time.Until(tok.ExpiresOn).Seconds()),
			}, err
		})
	machines := []*machine{
		w.machine(t, "first", msal.Options{Credential: &provider}), w.machine(t, "first", msal.Options{Credential: &provider}),
	}
	for i := range 6 {
		tok, err := machines[i%2].AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://second/.default"}})
		must(t, err)
		if left := time.Until(tok.Expires); tok.AccessToken != "marker-of api://second/.default" || left < 50*time.Minute {
			t.Errorf("another token, or one for %v", left)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the credential was asked %d times", n)
	}
	broken.Store(1)
	_, err := machines[0].AppToken(t.Context(), tokencache.Request{Scopes: []string{"api://third/.default"}})
	if !errors.Is(err, errCLI) {
		t.Errorf("no credential of the chain is there: %v", err)
	}
	clean(t, err, "marker")
}
