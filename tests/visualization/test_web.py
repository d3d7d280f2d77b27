"""The web page, in a real browser."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from helpers import TINY, call
from mmengine.config import Config
from PIL import Image

pytest.importorskip('gradio')
playwright = pytest.importorskip('playwright.sync_api')

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
WEB = 'tools/visualization/web.py'
PRETRAIN = 'configs/pretrain/saim_vit-demo-p4_1xb64-coslr-40e_digits.py'


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.fixture(scope='module')
def site(checkpoint, tmp_path_factory):
    """The address of the page, of a tiny model."""
    folder = tmp_path_factory.mktemp('web')
    cfg = Config.fromfile(PRETRAIN)
    cfg.model.backbone.update(arch=TINY, img_size=32, patch_size=8)
    cfg.dump(folder / 'config.py')
    shutil.copy(checkpoint, folder / 'epoch_1.pth')
    port = free_port()
    command = [sys.executable, '-u', '-m', 'saim_mm.cli', 'view', folder]
    command += ['--port', str(port)]
    with (
        open(folder / 'log', 'w') as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        while 'Running on' not in (folder / 'log').read_text():
            assert server.poll() is None, (folder / 'log').read_text()
            time.sleep(0.1)
        yield f'http://127.0.0.1:{port}'
        server.terminate()


@pytest.fixture
def page(site):
    """A browser with the page, without any network but this computer."""
    if not BROWSER:
        pytest.skip('no browser: install chromium')
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=BROWSER, args=['--no-sandbox']
        )
        page = browser.new_page(viewport=dict(width=1400, height=1000))
        page.set_default_timeout(60_000)
        page.route(
            lambda url: not url.startswith((site, 'data:', 'blob:')),
            lambda route: route.abort(),
        )
        page.goto(site)
        page.get_by_role('button', name='Reconstruct').wait_for()
        yield page
        browser.close()


def upload(page, path):
    page.get_by_label('Remove Image').first.click()
    page.locator('#picture input[type=file]').set_input_files(path)


def press(page, button, results=1):
    """Press a button; return the pictures that it makes, as arrays."""
    page.get_by_role('button', name=button, exact=True).click()
    pictures = page.locator('.result img:visible')
    playwright.expect(pictures).to_have_count(results, timeout=60_000)
    arrays = []
    for n in range(results):
        with urllib.request.urlopen(
            pictures.nth(n).get_attribute('src')
        ) as response:
            with Image.open(response) as picture:
                frames = getattr(picture, 'n_frames', 1)
                arrays.append((frames, np.asarray(picture.convert('RGB'))))
    return arrays


def test_every_tab(page, photos, tmp_path):
    photo = sorted(photos.iterdir())[3]
    upload(page, photo)
    page.locator('#picture img').wait_for()
    pictures = {}
    for tab, button in (
        ('Reconstruction', 'Reconstruct'),
        ('Attention', 'Draw attention'),
        ('Features', 'Draw features'),
    ):
        page.get_by_role('tab', name=tab).click()
        [(_, pictures[tab])] = press(page, button)
        assert pictures[tab].std() > 10
    page.get_by_role('tab', name='Order').click()
    [(_, order), (frames, _)] = press(page, 'Complete', results=2)
    assert order.std() > 10
    # Of 16 patches 8 are given; at the end the original.
    assert frames == 1 + 8 + 1
    # What was uploaded is what is drawn: its colour is in the picture.
    colour = np.asarray(Image.open(photo)).mean(axis=(0, 1))
    height, width, _ = pictures['Features'].shape
    original = pictures['Features'][: height // 2, width // 2 :]
    inside = original[(original != 255).any(axis=-1)]
    assert np.abs(inside.mean(axis=0) - colour).max() < 10

    page.screenshot(path=tmp_path / 'page.png')
    with Image.open(tmp_path / 'page.png') as screenshot:
        assert screenshot.size == (1400, 1000)
        assert np.asarray(screenshot).std() > 10


def test_a_click_sets_the_point(page):
    """On the middle of the right edge of the square in the middle."""
    picture = page.locator('#picture img')
    picture.wait_for()
    box = picture.bounding_box()
    page.mouse.click(
        box['x'] + 0.99 * box['width'], box['y'] + box['height'] / 2
    )
    x = page.get_by_label('number input for Point: x, %')
    playwright.expect(x).to_have_value('99')
    y = page.get_by_label('number input for Point: y, %')
    playwright.expect(y).to_have_value('50')


def test_no_picture(page, tmp_path):
    page.get_by_label('Remove Image').first.click()
    page.get_by_role('button', name='Reconstruct').click()
    page.get_by_text('no picture: upload one first').wait_for()
    text = tmp_path / 'text.jpg'
    text.write_text('no image')
    page.locator('#picture input[type=file]').set_input_files(text)
    page.locator('#picture img').wait_for(state='attached')
    page.get_by_role('button', name='Reconstruct').click()
    message = page.get_by_text('text.jpg').first
    message.wait_for()
    # Not where Gradio keeps it.
    assert 'gradio' not in message.text_content()


def test_a_photograph_to_begin_with(page):
    """The page brings some along; a click takes one."""
    page.locator('.gallery-item').nth(1).click()
    playwright.expect(page.locator('#picture img')).to_have_attribute(
        'src', re.compile('china.jpg')
    )


def test_icons_do_not_lie_on_a_picture(page):
    press(page, 'Reconstruct')
    icons = page.locator('.result:visible .icon-button-wrapper')
    picture = page.locator('.result img:visible')
    box = icons.bounding_box()
    assert box['y'] + box['height'] <= picture.bounding_box()['y']


def test_port_in_use(site):
    port = site.rsplit(':', 1)[1]
    code, output = call(sys.executable, WEB, '--port', port)
    assert code == 2 and f'--port {port}: in use' in output
