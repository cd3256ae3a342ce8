#!/bin/sh
# Replace this script by your own migration: rails db:migrate, manage.py migrate, flyway …
set -e
echo "migration begins"
sleep 2
echo "<p>migrated</p>" >/var/www/html/new.html
mv /var/www/html/new.html /var/www/html/index.html
echo "migration ends"
