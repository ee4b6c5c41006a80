package coatcheck_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The program on a person's machine: the first time a browser is opened, and the second
// time there is a token. The browser is this test in another process, under the name of
// the program that opens browsers.
func TestReadmeDesktop(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("browsers are opened in another way here")
	}
	server, err := idp.Listen("127.0.0.1:0", &idp.Options{AutoLogin: true, Clients: []idp.Client{
		{ID: "desktop", Public: true, RedirectURIs: []string{"http://127.0.0.1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(context.Background()) })
	testserver.NewKeyring(t).Use(t)
	programs := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(programs, opener)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the browser ends when it has shown the page
	t.Setenv("XDG_DATA_HOME", t.TempDir())

	var tokens [2]tokencache.Token
	for i := range tokens {
		if tokens[i], err = newDesktopToken(t.Context(), server.URL(), "desktop"); err != nil {
			t.Fatal(err)
		}
	}
	if tokens[0].AccessToken != tokens[1].AccessToken || tokens[1].Source != tokencache.SourceProvider {
		t.Errorf("the second run got another token, or from %v", tokens[1].Source)
	}
	if n := server.Stats().TokenRequests.AuthorizationCode; n != 1 {
		t.Errorf("the user has signed in %d times", n)
	}
}

// opener is the program that opens a URL in the browser of a Linux desktop.
const opener = "xdg-open"

// openedURL is what this process was started to open, if it was.
func openedURL() string {
	if filepath.Base(os.Args[0]) == opener && len(os.Args) == 2 {
		return os.Args[1]
	}
	return ""
}
