package interop_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck-go/coatcheck/internal/testserver"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// aspNetCaches returns what an ASP.NET app has in Redis, by home account ID: the
// distributed token cache of Microsoft.Identity.Web, without Encrypt, on RedisCache.
func aspNetCaches(ctx context.Context, client *redis.Client, instanceName string) (map[string][]byte, error) {
	all := map[string][]byte{}
	keys := client.ScanType(ctx, 0, instanceName+"*", 1000, "hash").Iterator()
	for keys.Next(ctx) {
		text, err := client.HGet(ctx, keys.Val(), "data").Bytes()
		if errors.Is(err, redis.Nil) {
			continue // it has ended, or is something else
		}
		if err != nil {
			return nil, err
		}
		all[keys.Val()[len(instanceName):]] = text
	}
	return all, keys.Err()
}

// The hashes of RedisCache are read; of what the app has there, only the user's is good for
// a sign-in.
func TestASPNetCaches(t *testing.T) {
	t.Parallel()
	server := testserver.NewRedis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { check(t, client.Close()) })
	const (
		account = "00000000-0000-0000-0000-0000000000D1.11111111-2222-3333-4444-555555555555"
		behalf  = "bm90LWEtaGFzaC1vZi1hbnl0aGluZy1hdC1hbGwtLS0"
		own     = clientID + "_11111111-2222-3333-4444-555555555555_AppTokenCache"
	)
	for key, text := range map[string][]byte{
		account: readFile(t, "dotnet.json"), behalf: readFile(t, "behalf.json"), own: readFile(t, "application.json"),
	} {
		check(t, client.HSet(t.Context(), "contoso:"+key, "absexp", -1, "sldexp", 12000000000, "data", text).Err())
	}
	check(t, client.HSet(t.Context(), "contoso:other", "field", "value").Err())
	check(t, client.Set(t.Context(), "contoso:text", "value", 0).Err())
	check(t, client.HSet(t.Context(), "fabrikam:"+account, "data", "{}").Err())

	all, err := aspNetCaches(t.Context(), client, "contoso:")
	check(t, err)
	if len(all) != 3 {
		t.Errorf("%d caches were found", len(all))
	}
	for key, text := range all {
		id := key
		if key == behalf {
			id = account // even so
		}
		cache := newCache(t, "https://login.microsoftonline.com/common/v2.0")
		_, err := cache.SignIn(t.Context(), func(context.Context) (tokencache.Grant, error) {
			return tokencache.Grant{Account: tokencache.Account{ID: id}, Tokens: tokens(t, text)}, nil
		})
		if key == account && err != nil || key != account && !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("a cache of %d bytes: %v", len(text), err)
		}
	}
}
