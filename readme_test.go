package coatcheck_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"go.uber.org/goleak"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestMain(m *testing.M) {
	if authURL := openedURL(); authURL != "" {
		fmt.Print(open(context.Background(), authURL+"&login_hint=ada"))
		return
	}
	goleak.VerifyTestMain(m,
		// The store of scs.New cannot stop its cleaner without a race.
		goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup"),
		// The provider of the README's program lives as long as the program.
		goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.periodicCleanUp[...]"))
}

// The program of the README, against a real OpenID Connect server: a browser
// that opens the page is signed in on the way, and gets its token.
func Example() {
	ctx := context.Background()
	server, err := idp.Listen("127.0.0.1:0", &idp.Options{AutoLogin: true})
	if err != nil {
		panic(err)
	}
	defer func() { _ = server.Close(ctx) }()

	web := httptest.NewUnstartedServer(nil)
	cache, client, err := newClient(ctx, server.URL(), idp.DefaultClientID, idp.DefaultClientSecret,
		"http://"+web.Listener.Addr().String()+"/callback")
	if err != nil {
		panic(err)
	}
	defer func() { _ = cache.Close(ctx) }()
	if web.Config.Handler, err = newApp(cache, client, scs.New()); err != nil {
		panic(err)
	}
	web.Start()
	defer web.Close()

	fmt.Print(open(ctx, web.URL))
	// Output: A Bearer token for [openid api://coatcheck-example/Tasks.Read], from the l1.
}

// open is the browser: it keeps cookies, follows redirects, and adds who it is
// to the sign-in, which the server takes without asking.
func open(ctx context.Context, address string) string {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/authorize" {
			r.URL.RawQuery += "&login_hint=ada"
		}
		return nil
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		panic(err)
	}
	resp, err := browser.Do(r)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// The cache on Redis, by two machines.
func TestReadmeRedis(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t)
	twoMachines(t, func(keyFile string, namespace tokencache.Namespace) (*tokencache.Cache, error) {
		return newRedisCache(t.Context(), server.Addr(), keyFile, namespace)
	})
}

// The cache on PostgreSQL, by two machines.
func TestReadmePostgres(t *testing.T) {
	t.Parallel()
	server := testserver.NewPostgres(t)
	twoMachines(t, func(keyFile string, namespace tokencache.Namespace) (*tokencache.Cache, error) {
		pool, err := pgxpool.New(t.Context(), server.URL())
		if err != nil {
			return nil, err
		}
		t.Cleanup(pool.Close)
		return newPostgresCache(t.Context(), pool, keyFile, namespace)
	})
}

// twoMachines signs a user in at one, and asks the other for the token.
func twoMachines(t *testing.T, newCache func(keyFile string, namespace tokencache.Namespace) (*tokencache.Cache, error)) {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "keys.json")
	if err := tokencache.CreateKeyFile(keyFile); err != nil {
		t.Fatal(err)
	}
	namespace := tokencache.Namespace{Issuer: "https://login.example", ClientID: "app"}
	var machines [2]*tokencache.Cache
	for i := range machines {
		cache, err := newCache(keyFile, namespace)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Close(context.Background()) })
		machines[i] = cache
	}
	request := tokencache.Request{Scopes: []string{"read"}}
	_, err := machines[0].SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
		return tokencache.Grant{
			AccessToken: "marker-access", Scopes: request.Scopes, Expires: time.Now().Add(time.Hour),
			Account: tokencache.Account{ID: "account"},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := machines[1].Partition(tokencache.AccountKey("account")).Token(t.Context(), request, nil)
	if err != nil || token.Source != tokencache.SourceProvider {
		t.Errorf("the other machine has a token from %q, error %v", token.Source, err)
	}
}

// What the README shows is what was compiled above.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("readme_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```go\nfunc new")
	if len(blocks) < 8 {
		t.Fatal("the README does not show all programs")
	}
	for _, block := range blocks[1:] {
		code, _, _ := strings.Cut(block, "```")
		if !strings.Contains(string(program), "func new"+code) {
			t.Errorf("the README shows another program than readme_example_test.go:\nfunc new%s", code)
		}
	}
}
